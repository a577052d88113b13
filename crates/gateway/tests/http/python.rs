//! The emulation script of the reference system, as a person wrote it in Python with `requests`.

use std::process::Command;

use crate::support::serve;

const SCRIPT: &str = r#"
import json, sys
import requests

url = sys.argv[1]
for n in range(30):
    pin = {"index": n, "title": "caf\u00e9 \U0001f600", "follower_count": "124k", "downloaded": 1}
    for topic in ("0a1b2c3d4e5f.pin", "0a1b2c3d4e5f.geo", "0a1b2c3d4e5f.user"):
        payload = json.dumps({"records": [{"value": pin}]})
        headers = {"Content-Type": "application/vnd.kafka.json.v2+json"}
        response = requests.request("POST", f"{url}/dev/topics/{topic}", headers=headers, data=payload)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer == {
            "offsets": [{"partition": 0, "offset": n, "error_code": None, "error": None}],
            "key_schema_id": None,
            "value_schema_id": None,
        }, answer

# The script calls .json() on every answer, errors too.
for method, path, body in (
    ("GET", "/nothing", None),
    ("DELETE", "/topics/a", None),
    ("POST", "/topics/a", "{"),
    ("POST", "/topics/..%2Fa", "{}"),
    ("POST", "/topics/a", "x" * (10 * 1024 * 1024 + 1)),
):
    response = requests.request(method, url + path, headers=headers, data=body)
    assert response.status_code >= 400, response.text
    assert set(response.json()) == {"error_code", "message"}, response.text

session = requests.Session()
for _ in range(100):
    response = session.post(f"{url}/topics/kept.alive/", headers=headers, json={"records": [{"value": 1}]})
    assert response.json()["offsets"][0]["error_code"] is None
assert "kept.alive" in session.get(url + "/topics").json()
print("done")
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_script_runs_unchanged() {
    let has_requests = Command::new("python3").args(["-c", "import requests"]).output();
    if !has_requests.is_ok_and(|output| output.status.success()) {
        pinmill_testkit::left_out("`python3 -c 'import requests'` does not work here");
        return;
    }
    let served = serve(|_| {}).await;
    let url = format!("http://{}", served.address);
    let script =
        tokio::process::Command::new("python3").args(["-c", SCRIPT, &url]).env("NO_PROXY", "*").output();
    let output = crate::support::within(script).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"done\n");
    assert_eq!(served.count("0a1b2c3d4e5f.pin"), 30);
    let first = r#"{"index":0,"title":"caf\u00e9 \ud83d\ude00","follower_count":"124k","downloaded":1}"#;
    assert_eq!(served.values("0a1b2c3d4e5f.pin")[0][0], first);
}
