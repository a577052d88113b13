//! The least server that takes the poster's requests, to measure the poster alone: it reads each body and answers with the
//! positions of one record. `bare [PORT]`

use std::io::Write;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.kafka.v2+json\r\ncontent-length: 120\r\n\r\n\
    {\"offsets\":[{\"partition\":0,\"offset\":123456,\"error_code\":null,\"error\":null}],\"key_schema_id\":null,\"value_schema_id\":null}";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(0), |text| text.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream));
    }
}

async fn serve(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(1 << 16, stream);
    let mut body = Vec::new();
    while let Some(length) = head(&mut stream).await? {
        body.resize(length, 0);
        stream.read_exact(&mut body).await?;
        stream.write_all(ANSWER).await?;
    }
    Ok(())
}

/// Reads a head and gives the length of its body; `None` at the end of the connection.
async fn head(stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<usize>> {
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap_or(0);
            }
            None if line == "\r\n" => return Ok(Some(length)),
            _ => {}
        }
    }
}
