"""The broker that the other tests use."""

from confluent_kafka import Producer

from support.servers.kafka_broker import PASSWORD, USER, KafkaBroker


def test_what_comes_by_the_guarded_listener_is_read_by_the_open_one(kafka_broker: KafkaBroker) -> None:
    kafka_broker.make_topics("guarded")
    guard = {"security.protocol": "SASL_SSL", "ssl.ca.location": str(kafka_broker.certificate)}
    name = {"sasl.mechanism": "PLAIN", "sasl.username": USER, "sasl.password": PASSWORD}
    producer = Producer({"bootstrap.servers": kafka_broker.guarded_address, **guard, **name})
    producer.produce("guarded", b"value", b"key")
    assert producer.flush(20) == 0
    assert [(each.key(), each.value()) for each in kafka_broker.read("guarded")] == [(b"key", b"value")]
