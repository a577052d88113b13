//! The AWS SDK for Rust, which signs what it sends; the service verifies it.

use std::collections::{BTreeMap, VecDeque};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{Config, Credentials, Region};
use aws_sdk_kinesis::error::ProvideErrorMetadata as _;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{
    PutRecordsRequestEntry, Shard, ShardIteratorType, StreamDescription, StreamStatus,
};
use pinmill_kinesis::Secret;

use crate::world::World;

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const STREAM: &str = "orders";
const BATCH: usize = 500;

/// A service that verifies signatures, and the SDK's client for it.
async fn world_and_client() -> (World, Client) {
    let keys = BTreeMap::from([(KEY_ID.to_owned(), Secret::new(SECRET))]);
    let world = World::with(|config| config.credentials = pinmill_kinesis::Credentials::Verify(keys)).await;
    let client = client(&world, SECRET);
    (world, client)
}

fn client(world: &World, secret: &str) -> Client {
    let config = Config::builder()
        .behavior_version_latest()
        .endpoint_url(format!("http://{}", world.address))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(KEY_ID, secret, None, None, "test"));
    Client::from_conf(config.build())
}

/// A record as it was put: its key and its data, which begin with its place among all records.
fn record(n: usize) -> (String, Vec<u8>) {
    let mut data = n.to_be_bytes().to_vec();
    data.extend((0..=u8::MAX).cycle().skip(n % 256).take(n % 700));
    (format!("key-{}", n % 50), data)
}

async fn put_one(client: &Client, n: usize) -> (String, String) {
    let (key, data) = record(n);
    let put = client.put_record().stream_name(STREAM).partition_key(key).data(Blob::new(data));
    let put = put.send().await.unwrap();
    (put.shard_id().to_owned(), put.sequence_number().to_owned())
}

async fn put_batch(client: &Client, first: usize) {
    let entry = |n| {
        let (key, data) = record(n);
        PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(data)).build().unwrap()
    };
    let entries = (first..first + BATCH).map(entry).collect();
    let put = client.put_records().stream_name(STREAM).set_records(Some(entries)).send().await.unwrap();
    assert_eq!((put.failed_record_count(), put.records().len()), (Some(0), BATCH));
    assert!(put.records().iter().all(|record| record.shard_id().is_some() && record.error_code().is_none()));
}

async fn split_in_the_middle(client: &Client, shard: &Shard) {
    let range = shard.hash_key_range().unwrap();
    let (start, end): (u128, u128) =
        (range.starting_hash_key().parse().unwrap(), range.ending_hash_key().parse().unwrap());
    let middle = start + (end - start) / 2;
    let split = client.split_shard().stream_name(STREAM).shard_to_split(shard.shard_id());
    split.new_starting_hash_key(middle.to_string()).send().await.unwrap();
}

async fn shards(client: &Client) -> Vec<Shard> {
    client.list_shards().stream_name(STREAM).send().await.unwrap().shards().to_vec()
}

async fn describe(client: &Client) -> StreamDescription {
    let described = client.describe_stream().stream_name(STREAM).send().await.unwrap();
    described.stream_description.unwrap()
}

/// Reads the shard from its beginning: its records (key and data), and the children of a closed one.
async fn read(client: &Client, shard: &str) -> (Vec<(String, Vec<u8>)>, Vec<String>) {
    let from = client.get_shard_iterator().stream_name(STREAM).shard_id(shard);
    let from = from.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
    let (mut iterator, mut records, mut children) = (from.shard_iterator, Vec::new(), Vec::new());
    while let Some(at) = iterator {
        let read = client.get_records().shard_iterator(at).limit(700).send().await.unwrap();
        for record in read.records() {
            records.push((record.partition_key().unwrap().to_owned(), record.data().as_ref().to_vec()));
        }
        children.extend(read.child_shards().iter().map(|child| child.shard_id().to_owned()));
        let is_at_end = read.records().is_empty() && read.millis_behind_latest() == Some(0);
        iterator = read.next_shard_iterator.filter(|_| !is_at_end);
    }
    (records, children)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_client_puts_splits_reads_parents_before_children_and_deletes() {
    let (world, client) = world_and_client().await;
    client.create_stream().stream_name(STREAM).shard_count(2).send().await.unwrap();
    let description = describe(&client).await;
    assert_eq!((description.stream_status(), description.shards().len()), (&StreamStatus::Active, 2));
    assert_eq!(description.stream_arn(), format!("arn:aws:kinesis:us-east-1:000000000000:stream/{STREAM}"));

    let first = put_one(&client, 0).await;
    let second = put_one(&client, 50).await;
    assert_eq!(first.0, second.0, "one key, one shard");
    assert!(first.1 < second.1, "numbers of one length ascend");
    put_batch(&client, 1000).await;
    let parents = shards(&client).await;
    split_in_the_middle(&client, &parents[0]).await;
    put_batch(&client, 1000 + BATCH).await;

    let all = shards(&client).await;
    assert_eq!(all.len(), 4);
    let is_child = |shard: &&Shard| shard.parent_shard_id() == Some(parents[0].shard_id());
    assert_eq!(all.iter().filter(is_child).count(), 2);
    let ended = all[0].sequence_number_range().unwrap().ending_sequence_number();
    assert!(ended.is_some(), "the shard that was split is closed");

    let mut to_read: VecDeque<String> = parents.iter().map(|shard| shard.shard_id().to_owned()).collect();
    let (mut found, mut shards_read) = (Vec::new(), 0);
    while let Some(shard) = to_read.pop_front() {
        let (records, children) = read(&client, &shard).await;
        found.extend(records);
        to_read.extend(children);
        shards_read += 1;
    }
    assert_eq!(shards_read, 4, "every shard is the child of one read before, or one of the first two");
    // By key, in the order in which they were read: that in which they were put.
    let mut expected: Vec<_> = [0, 50].into_iter().chain(1000..1000 + 2 * BATCH).map(record).collect();
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found == expected, "{} records were read, {} put", found.len(), expected.len());

    client.delete_stream().stream_name(STREAM).send().await.unwrap();
    assert!(client.list_streams().send().await.unwrap().stream_names().is_empty());
    assert!(world.kinesis.streams().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_client_knows_our_errors_by_their_types() {
    let (world, client) = world_and_client().await;
    let missing = client.describe_stream().stream_name("none").send().await.unwrap_err();
    let missing = missing.into_service_error();
    assert!(missing.is_resource_not_found_exception(), "{missing:?}");
    assert_eq!(missing.message(), Some("Stream none under account 000000000000 not found."));

    client.create_stream().stream_name(STREAM).shard_count(1).send().await.unwrap();
    let again = client.create_stream().stream_name(STREAM).shard_count(1).send().await.unwrap_err();
    assert!(again.into_service_error().is_resource_in_use_exception());
    let strange = client.get_records().shard_iterator("x").send().await.unwrap_err();
    assert!(strange.into_service_error().is_invalid_argument_exception());

    let stranger = self::client(&world, "wrong").list_streams().send().await.unwrap_err();
    assert_eq!(stranger.code(), Some("InvalidSignatureException"));
}
