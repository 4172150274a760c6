"""A client of Kafka that is not ours: librdkafka.

    kafka.py BROKER produce TOPIC MESSAGE
    kafka.py BROKER consume TOPIC COUNT
    kafka.py BROKER topics
    kafka.py BROKER create TOPIC

It prints one line of JSON: what came of it, or {"error": NAME}.
"""

import json
import sys

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PATIENCE = 8
COMMON = {
    "client.id": "lab",
    "socket.timeout.ms": 5000,
    "message.timeout.ms": 7000,
    "log_level": 0,
}


def produce(broker, topic, message):
    outcome = {}

    def told(error, delivered):
        outcome.update({"error": error.name()} if error else {"offset": delivered.offset()})

    producer = Producer({**COMMON, "bootstrap.servers": broker})
    producer.produce(topic, message.encode(), on_delivery=told)
    producer.flush(PATIENCE)
    return outcome or {"error": "nothing came back"}


def consume(broker, topic, count):
    settings = {key: value for key, value in COMMON.items() if key != "message.timeout.ms"}
    consumer = Consumer({**settings, "bootstrap.servers": broker, "group.id": "lab"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = []
    try:
        while len(messages) < int(count):
            message = consumer.poll(PATIENCE)
            if message is None:
                return {"error": "nothing came", "messages": messages}
            if message.error():
                return {"error": message.error().name()}
            messages.append(message.value().decode())
    finally:
        consumer.close()
    return {"messages": messages}


def admin(broker):
    return AdminClient({"bootstrap.servers": broker, "socket.timeout.ms": 5000, "log_level": 0})


def topics(broker):
    return {"topics": sorted(admin(broker).list_topics(timeout=PATIENCE).topics)}


def create(broker, topic):
    client = admin(broker)
    for future in client.create_topics([NewTopic(topic, 1, 1)]).values():
        future.result(PATIENCE)
    return {}


def main(broker, command, *arguments):
    commands = {"produce": produce, "consume": consume, "topics": topics, "create": create}
    try:
        outcome = commands[command](broker, *arguments)
    except KafkaException as error:
        outcome = {"error": error.args[0].name()}
    print(json.dumps(outcome))


main(*sys.argv[1:])
