package pinmill;

import java.net.URI;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.model.ConsumerStatus;
import software.amazon.awssdk.services.kinesis.model.GetRecordsResponse;
import software.amazon.awssdk.services.kinesis.model.PutRecordsRequestEntry;
import software.amazon.awssdk.services.kinesis.model.Record;
import software.amazon.awssdk.services.kinesis.model.ResourceNotFoundException;
import software.amazon.awssdk.services.kinesis.model.Shard;
import software.amazon.awssdk.services.kinesis.model.ShardFilterType;
import software.amazon.awssdk.services.kinesis.model.ShardIteratorType;
import software.amazon.awssdk.services.kinesis.model.SubscribeToShardEvent;
import software.amazon.awssdk.services.kinesis.model.SubscribeToShardResponseHandler;

/** Puts, reads, splits and subscribes with the asynchronous client, which speaks CBOR over HTTP/2 and nothing else. */
public final class Walk {
    private static final int COUNT = 1000;

    public static void main(String[] arguments) throws Exception {
        try (KinesisAsyncClient kinesis = KinesisAsyncClient.builder()
                .endpointOverride(URI.create(arguments[0]))
                .region(Region.US_EAST_1)
                .credentialsProvider(StaticCredentialsProvider.create(
                        AwsBasicCredentials.create("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")))
                .httpClientBuilder(NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP2))
                .build()) {
            walk(kinesis);
        }
        System.out.println("done");
    }

    private static void walk(KinesisAsyncClient kinesis) throws Exception {
        kinesis.createStream(r -> r.streamName("java").shardCount(1)).get();
        kinesis.waiter().waitUntilStreamExists(r -> r.streamName("java")).get();
        List<PutRecordsRequestEntry> entries = IntStream.range(0, COUNT / 2)
                .mapToObj(n -> PutRecordsRequestEntry.builder()
                        .partitionKey("key-" + n % 10)
                        .data(SdkBytes.fromUtf8String("record " + n))
                        .build())
                .toList();
        for (int half = 0; half < 2; half++) {
            check(kinesis.putRecords(r -> r.streamName("java").records(entries)).get().failedRecordCount() == 0, "puts");
        }
        Instant now = Instant.now();
        List<Record> records = read(kinesis, "shardId-000000000000");
        check(records.size() == COUNT, "reads " + records.size());
        check(records.get(7).data().asUtf8String().equals("record 7"), "data");
        Duration age = Duration.between(records.get(0).approximateArrivalTimestamp(), now).abs();
        check(age.compareTo(Duration.ofMinutes(1)) < 0, "arrival " + records.get(0).approximateArrivalTimestamp());

        var summary = kinesis.describeStreamSummary(r -> r.streamName("java")).get().streamDescriptionSummary();
        check(summary.openShardCount() == 1, "summary");
        check(Duration.between(summary.streamCreationTimestamp(), now).abs().toMinutes() < 5, "creation");

        String consumer = kinesis.registerStreamConsumer(r -> r.streamARN(summary.streamARN()).consumerName("fan"))
                .get().consumer().consumerARN();
        while (kinesis.describeStreamConsumer(r -> r.consumerARN(consumer)).get().consumerDescription().consumerStatus()
                != ConsumerStatus.ACTIVE) {
            TimeUnit.MILLISECONDS.sleep(50);
        }
        List<SubscribeToShardEvent> events = new CopyOnWriteArrayList<>();
        var subscription = kinesis.subscribeToShard(
                r -> r.consumerARN(consumer)
                        .shardId("shardId-000000000000")
                        .startingPosition(p -> p.type(ShardIteratorType.TRIM_HORIZON)),
                SubscribeToShardResponseHandler.builder()
                        .subscriber(event -> events.add((SubscribeToShardEvent) event))
                        .build());
        kinesis.splitShard(r -> r.streamName("java").shardToSplit("shardId-000000000000").newStartingHashKey("1000")).get();
        subscription.get(60, TimeUnit.SECONDS);
        int pushed = events.stream().mapToInt(event -> event.records().size()).sum();
        check(pushed == COUNT, "pushed " + pushed);
        check(events.get(events.size() - 1).childShards().size() == 2, "children at the end of the shard");

        List<Shard> latest = kinesis.listShards(r -> r.streamName("java")
                .shardFilter(f -> f.type(ShardFilterType.AT_LATEST))).get().shards();
        check(latest.size() == 2 && latest.get(0).parentShardId().equals("shardId-000000000000"), "shards " + latest);
        kinesis.deleteStream(r -> r.streamName("java").enforceConsumerDeletion(true)).get();
        try {
            kinesis.describeStreamSummary(r -> r.streamName("java")).get();
            throw new AssertionError("a deleted stream is described");
        } catch (java.util.concurrent.ExecutionException expected) {
            check(expected.getCause() instanceof ResourceNotFoundException, "the exception's type: " + expected.getCause());
        }
    }

    private static List<Record> read(KinesisAsyncClient kinesis, String shard) throws Exception {
        String iterator = kinesis.getShardIterator(r -> r.streamName("java")
                .shardId(shard).shardIteratorType(ShardIteratorType.TRIM_HORIZON)).get().shardIterator();
        List<Record> records = new ArrayList<>();
        while (iterator != null) {
            String from = iterator;
            GetRecordsResponse answer = kinesis.getRecords(r -> r.shardIterator(from)).get();
            if (answer.records().isEmpty()) {
                break;
            }
            records.addAll(answer.records());
            iterator = answer.nextShardIterator();
        }
        return records;
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
