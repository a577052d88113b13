// Loaded before kinesis-local (node --require): every server of the process listens on 127.0.0.1.
//
// kinesis-local takes a port and no address, so that it would accept connections from the whole network. All of Node's
// servers (HTTP, HTTPS, HTTP/2) end up in net.Server.listen, whose arguments are normalised here.
"use strict";

const net = require("node:net");

const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (...given) {
  const callback = typeof given.at(-1) === "function" ? [given.pop()] : [];
  const [first, second, third] = given;
  const isOptions = typeof first === "object" && first !== null;
  if (isOptions && first.port === undefined) {
    // A pipe, a file descriptor or another server's handle.
    return listen.call(this, ...given, ...callback);
  }
  const options = isOptions ? { ...first } : { port: Number(first ?? 0) };
  const backlog = [second, third].find((value) => typeof value === "number");
  if (backlog !== undefined) {
    options.backlog = backlog;
  }
  return listen.call(this, { ...options, host: "127.0.0.1" }, ...callback);
};
