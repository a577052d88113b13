//! Requests that must prove who they are from.

use std::collections::BTreeMap;

use http::Method;
use pinmill_kinesis::{Credentials, Secret};
use serde_json::json;

use crate::world::{ANY_SIGNATURE, World};

const JSON: &str = "application/x-amz-json-1.1";

async fn world() -> World {
    let keys =
        BTreeMap::from([("AKIDEXAMPLE".to_owned(), Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))]);
    World::with(|config| config.credentials = Credentials::Verify(keys)).await
}

#[tokio::test]
async fn unproven_requests_are_refused_and_change_nothing() {
    let world = world().await;
    let body = json!({"StreamName": "s", "ShardCount": 1}).to_string();
    let signed = |credential: &str| {
        format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-date, Signature={}",
            "0".repeat(64)
        )
    };
    let day = chrono_day(&world);
    let scope = |key: &str, region: &str, service: &str| {
        signed(&format!("{key}/{day}/{region}/{service}/aws4_request"))
    };
    let now = format!("{day}T{}Z", "000000");
    for (authorization, date, kind) in [
        (scope("AKIDEXAMPLE", "us-east-1", "kinesis"), "20200101T000000Z", "InvalidSignatureException"),
        (scope("STRANGER", "us-east-1", "kinesis"), now.as_str(), "UnrecognizedClientException"),
        (scope("AKIDEXAMPLE", "eu-west-1", "kinesis"), now.as_str(), "InvalidSignatureException"),
        (scope("AKIDEXAMPLE", "us-east-1", "dynamodb"), now.as_str(), "InvalidSignatureException"),
        (scope("AKIDEXAMPLE", "us-east-1", "kinesis"), now.as_str(), "InvalidSignatureException"),
        (signed("AKIDEXAMPLE"), now.as_str(), "IncompleteSignatureException"),
        (ANY_SIGNATURE.to_owned(), now.as_str(), "UnrecognizedClientException"),
    ] {
        let headers = [
            ("content-type", JSON),
            ("x-amz-target", "Kinesis_20131202.CreateStream"),
            ("authorization", authorization.as_str()),
            ("x-amz-date", date),
        ];
        let answer = world.send(Method::POST, "/", &headers, body.clone()).await;
        assert_eq!(
            (answer.status, answer.json()["__type"].as_str()),
            (400, Some(kind)),
            "{authorization} {date}"
        );
        assert!(!String::from_utf8_lossy(&answer.body).contains("wJalrXUtn"), "no secret is told");
    }
    assert!(world.kinesis.streams().is_empty());
    assert!(!world.kinesis.is_open_to_anybody());
    assert!(!format!("{:?}", world.kinesis).contains("wJalrXUtn"), "no secret is printed");
}

/// Today in the form of a scope.
fn chrono_day(world: &World) -> String {
    chrono::DateTime::from_timestamp_millis(world.now_ms()).unwrap().format("%Y%m%d").to_string()
}
