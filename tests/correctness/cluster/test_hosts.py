"""Hosts on this machine: what they share, what they do not, and that nothing of them stays."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.cluster.hosts import HEAD, MOST_HOSTS, Hosts, HostsError, running_hosts, why_no_hosts
from tests.correctness.patience import PATIENCE_S, wait_for
from tools.cluster import main

SENT = 20_000_000
LISTEN = """
import socket
server = socket.create_server(("", 5000))
print("listening", flush=True)
connection, _ = server.accept()
got = 0
while data := connection.recv(1 << 20):
    got += len(data)
print(got, flush=True)
"""
SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 5000)) as connection:
    connection.sendall(bytes(int(sys.argv[2])))
    if len(sys.argv) > 3:
        input()
"""
HOLD = """
import sys, time
from fixtures.cluster.hosts import running_hosts
with running_hosts(1) as hosts:
    print(hosts["node1"].init, hosts["head"].init, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    if reason := why_no_hosts():
        pytest.skip(reason)
    with running_hosts(3) as hosts:
        yield hosts


def start(hosts: Hosts, name: str, code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python program on a host."""
    command = hosts[name].command(sys.executable, "-c", code, *arguments)
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def listening(hosts: Hosts, name: str) -> subprocess.Popen[str]:
    server = start(hosts, name, LISTEN)
    assert server.stdout is not None
    assert server.stdout.readline() == "listening\n"
    return server


def output_of(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    return said.strip()


def on(hosts: Hosts, name: str, *command: str) -> str:
    return subprocess.run(hosts[name].command(*command), capture_output=True, text=True, check=True).stdout


def test_each_has_a_name_a_card_and_processes_of_its_own(hosts: Hosts) -> None:
    for name in ("node1", "node2", HEAD):
        assert on(hosts, name, "hostname").strip() == name
        assert on(hosts, name, "cat", "/proc/1/cmdline").split("\0")[-3] == name
    assert on(hosts, "node1", "ls", "/sys/class/net").split() == ["eth0", "lo"]
    assert on(hosts, "node1", "getent", "hosts", "node2").split() == [hosts["node2"].address, "node2"]
    assert on(hosts, "node1", "pwd").strip() == str(Path.cwd())


def test_what_one_sends_to_another_is_counted_on_both_cards(hosts: Hosts) -> None:
    server = listening(hosts, "node2")
    before = hosts.traffic()
    output_of(start(hosts, "node1", SEND, "node2", str(SENT)))
    assert output_of(server) == str(SENT)
    after = hosts.traffic()
    moved = {name: after[name].since(before[name]) for name in after}
    assert SENT < moved["node1"].out < 1.05 * SENT
    assert SENT < moved["node2"].into < 1.05 * SENT
    assert moved["node3"].out + moved["node3"].into < 0.01 * SENT


def test_a_rate_bounds_what_a_host_sends(hosts: Hosts) -> None:
    hosts.limit("node3", "40mbit")
    server = listening(hosts, "node1")
    began = time.monotonic()
    output_of(start(hosts, "node3", SEND, "node1", "5000000"))
    assert output_of(server) == "5000000"
    assert time.monotonic() - began > 0.8 * 5_000_000 * 8 / 40e6


def test_a_host_without_power_says_no_farewell() -> None:
    if reason := why_no_hosts():
        pytest.skip(reason)
    with running_hosts(2) as hosts:
        server = listening(hosts, "node1")
        client = start(hosts, "node2", SEND, "node1", "1", "and stay")
        init = hosts["node2"].init
        hosts.kill("node2")
        client.wait(PATIENCE_S)
        assert not Path(f"/proc/{init}").exists()
        wait_for(lambda: set(hosts.traffic()) == {"node1"})  # the kernel takes its time with the card
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait(1.0)


def test_nothing_stays_when_the_one_who_started_them_is_killed() -> None:
    if reason := why_no_hosts():
        pytest.skip(reason)
    cards = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    inits = holder.stdout.readline().split()
    assert len(inits) == 2
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inits))
    assert subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout == cards


@pytest.mark.parametrize("count", [0, MOST_HOSTS + 1])
def test_too_few_and_too_many_are_refused(count: int) -> None:
    with pytest.raises(HostsError, match="between 1 and"), running_hosts(count):
        pass


def test_what_is_missing_is_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name in ("ip", "tc") else f"/bin/{name}")
    assert why_no_hosts() == "hosts on this machine need iproute2 and util-linux: ip, tc not found"
    assert main(["--hosts", "2", "true"]) == 2
    assert capsys.readouterr().err.splitlines() == [why_no_hosts()]
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert why_no_hosts() == "hosts on this machine need root"
