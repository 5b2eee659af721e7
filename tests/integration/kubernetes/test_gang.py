"""Gangs of tiny pods that end well."""

import textwrap

from .conftest import Namespace, Run

TALK = textwrap.dedent("""
    import json, os, socket, time
    config = json.loads(os.environ["TF_CONFIG"])
    index, hosts = config["task"]["index"], config["cluster"]["worker"]
    name, port = hosts[0].split(":")
    if index == 0:
        server = socket.create_server(("", int(port)))
        for _ in hosts[1:]:
            peer, _ = server.accept()
            print("chief heard", peer.recv(99).decode())
            peer.sendall(b"hello")
    else:
        while True:
            try:
                peer = socket.create_connection((name, int(port)))
                break
            except OSError:
                time.sleep(.1)
        peer.sendall(f"worker {index}".encode())
        print("answer:", peer.recv(99).decode())
""")


def test_workers_find_each_other_by_the_names_in_tf_config(make_run, namespace: Namespace) -> None:
    run: Run = make_run(TALK).start().finish()
    assert run.error is None
    assert run.worker_lines(0) == ["chief heard worker 1"]
    assert run.worker_lines(1) == ["answer: hello"]
    assert run.task.xcoms["gang"]["workers"] == {"0": "terminated", "1": "terminated"}
    assert namespace.objects() == []
