"""Hostile peers with real sockets against rank 0's desk, a false rank 0 against the others, the store."""

import contextlib
import hashlib
import hmac
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fixtures.ranks.address import CannotStart, Meeting, connect, listen
from fixtures.ranks.channel import ANSWER, NONCE, PROOF, Channel, Proofs
from fixtures.ranks.data import encode
from fixtures.ranks.desk import CROWD, PROVE_S, Desk
from fixtures.ranks.followers import Followers, gather_followers
from fixtures.ranks.messages import CaseOver, Enroll, FromRank, Hello, Refused, StoreCall
from tests.correctness.patience import PATIENCE_S, wait_for

KEY = b"k" * 32


def entry(rank: int) -> Enroll:
    """A pytest process of a launch of two."""
    return Enroll(rank=rank, world_size=2, host="here", pid=os.getpid(), items=("a",))


class Clock:
    """The clock of one module under test: `ahead_s` of the machine's, and any sleep makes it late."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return time.monotonic() + self.ahead_s

    def sleep(self, _seconds: float) -> None:
        """Past any deadline."""
        self.ahead_s += 2 * PATIENCE_S


def opened(key: bytes = KEY) -> tuple[Meeting, Desk]:
    """A desk that listens on loopback, and where it is."""
    meeting = Meeting(hosts=("127.0.0.1",), ports=(0,), key=key)
    desk = Desk(servers=listen(meeting, one_host=True), key=key)
    return desk.meeting, desk


@pytest.fixture
def desk() -> Iterator[Desk]:
    _, desk = opened()
    yield desk
    desk.close()


def caller(desk: Desk) -> socket.socket:
    """A connection that has proved nothing."""
    meeting = desk.meeting
    return socket.create_connection((meeting.hosts[0], meeting.ports[0]), timeout=PATIENCE_S)


def enrolled(desk: Desk, patience_s: float = PATIENCE_S) -> tuple[Followers, Channel]:
    """Rank 0 and an honest rank 1 meet at this desk: what rank 0 knows, and rank 1's channel."""
    found: list[Channel] = []

    def arrive() -> None:
        channel, _ = connect(lambda: desk.meeting, time.monotonic() + patience_s)
        found.append(channel)
        channel.send(entry(1))

    thread = threading.Thread(target=arrive)
    thread.start()
    followers = gather_followers(desk, entry(0), patience_s)
    thread.join()
    return followers, found[0]


def whole(sock: socket.socket, count: int) -> bytes:
    seen = b""
    while len(seen) < count:
        if not (part := sock.recv(count - len(seen))):
            raise ConnectionResetError
        seen += part
    return seen


def proven(desk: Desk, key: bytes = KEY) -> tuple[socket.socket, Proofs]:
    """A bare socket whose far end is convinced, while somebody else serves the desk."""
    sock = caller(desk)
    nonce = os.urandom(NONCE)
    proofs = Proofs(key, whole(sock, NONCE) + nonce)
    sock.sendall(nonce + proofs.of("client"))
    assert whole(sock, PROOF) == proofs.of("server")
    return sock, proofs


@contextlib.contextmanager
def served(desk: Desk) -> Iterator[None]:
    """Serve the desk in a thread."""
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            for number in desk.filenos():
                desk.serve(number)
            desk.show_out()
            time.sleep(0.002)

    # serve() of a descriptor with nothing to read returns at once: no poll is needed
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def where(hosts: tuple[str, ...], one_host: bool = False) -> set[str]:
    """On which addresses rank 0 listens when others look for it at these hosts."""
    servers = listen(Meeting(hosts=hosts, ports=(0,), key=KEY), one_host)
    try:
        return {server.getsockname()[0] for server in servers}
    finally:
        for server in servers:
            server.close()


def test_rank_0_listens_on_no_address_but_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert where(("elsewhere",), one_host=True) == {"127.0.0.1"}
    assert where(("127.0.0.1",)) == {"127.0.0.1"}
    monkeypatch.setattr("fixtures.ranks.address._resolved", lambda _: ["127.0.0.2"])
    assert where(("127.0.0.2",)) == {"127.0.0.2"}


@pytest.mark.parametrize("resolved", [["127.0.1.1"], ["192.0.2.1"], []])
def test_rank_0_listens_everywhere_where_its_name_says_nothing(
    monkeypatch: pytest.MonkeyPatch, resolved: list[str]
) -> None:
    monkeypatch.setattr("fixtures.ranks.address._resolved", lambda _: resolved)
    assert where(("node1",)) <= {"::", "0.0.0.0"}


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_ipv6() -> None:
    meeting = Meeting(hosts=("::1",), ports=(0,), key=KEY)
    desk = Desk(servers=listen(meeting, one_host=False), key=KEY)
    assert desk.meeting.hosts == ("::1",)
    followers, channel = enrolled(desk)
    assert set(followers.channels) == {1}
    channel.close()
    desk.close()


def silent(desk: Desk) -> socket.socket:
    return caller(desk)


def slow(desk: Desk) -> socket.socket:
    sock = caller(desk)
    sock.sendall(b"x")
    return sock


def garbage(desk: Desk) -> socket.socket:
    sock = caller(desk)
    sock.sendall(os.urandom(4096))
    return sock


def huge(desk: Desk) -> socket.socket:
    sock = caller(desk)
    sock.sendall(struct.pack("!Q", 1 << 62) * 512)
    return sock


def reset(desk: Desk) -> socket.socket:
    sock = caller(desk)
    sock.sendall(b"x" * 40)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    return sock


def pickled(desk: Desk) -> socket.socket:
    """What took over rank 0 when frames were pickles: it would make a folder."""
    sock = caller(desk)
    sock.sendall(struct.pack("!Q", 40) + b"cos\nmkdir\n(S'/tmp/refit-was-here'\ntR.")
    return sock


@pytest.mark.parametrize("stranger", [silent, slow, garbage, huge, reset, pickled])
def test_enrolment_survives_strangers(
    desk: Desk, stranger: Callable[[Desk], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fixtures.ranks.desk.PROVE_S", 3600.0)  # whoever waited for a stranger would not end
    strangers = [stranger(desk) for _ in range(8)]
    followers, channel = enrolled(desk)
    assert set(followers.channels) == {1}
    assert not Path("/tmp/refit-was-here").exists()
    for sock in strangers:
        sock.close()
    channel.close()


def test_enrolment_survives_200_connections(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fixtures.ranks.desk.PROVE_S", 3600.0)
    strangers = [caller(desk) for _ in range(200)]
    start = time.monotonic()
    followers, channel = enrolled(desk)
    took = time.monotonic() - start
    assert set(followers.channels) == {1}
    assert len(desk.filenos()) <= CROWD + 1
    print(f"enrolled past 200 silent connections in {1e3 * took:.0f} ms")
    for sock in strangers:
        sock.close()
    channel.close()


def test_strangers_alone_are_counted_and_end_in_time(desk: Desk) -> None:
    strangers = [garbage(desk) for _ in range(3)]
    with served(desk):
        wait_for(lambda: desk.turned_away == len(strangers))
    with pytest.raises(
        CannotStart, match=r"rank 1 of 2 never arrived within 0.1 s.*3 connections that could not"
    ):
        gather_followers(desk, entry(0), 0.1)
    for sock in strangers:
        sock.close()


def test_a_stranger_is_shown_nothing_of_the_secret(desk: Desk) -> None:
    with served(desk), caller(desk) as one, caller(desk) as other:
        shown = [whole(sock, NONCE) for sock in (one, other)]
        assert shown[0] != shown[1]
        one.sendall(shown[0] + shown[1])  # what the server said, said back to it
        with pytest.raises(OSError):
            whole(one, 1)
        other.sendall(b"\0" * ANSWER)
        with pytest.raises(OSError):
            whole(other, 1)


def test_one_handshake_does_not_open_another(desk: Desk) -> None:
    with served(desk), caller(desk) as first, caller(desk) as second:
        nonce = os.urandom(NONCE)
        answer = nonce + Proofs(KEY, whole(first, NONCE) + nonce).of("client")
        first.sendall(answer)
        assert len(whole(first, PROOF)) == PROOF
        whole(second, NONCE)
        second.sendall(answer)
        with pytest.raises(OSError):
            whole(second, 1)


def test_silence_is_shown_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("fixtures.ranks.desk.time", clock)
    with served(desk):
        quiet, (mute, _) = caller(desk), proven(desk)
        whole(quiet, NONCE)
        clock.ahead_s = PROVE_S
        for sock in (quiet, mute):
            with pytest.raises(OSError):
                whole(sock, 1)
            sock.close()


def frame(proofs: Proofs, text: bytes, number: int = 0, role: str = "to server") -> bytes:
    """A frame as its sender makes it."""
    seal = hmac.digest(proofs.of(role), number.to_bytes(8, "big") + text, hashlib.sha256)
    return struct.pack("!I32s", len(text), seal) + text


ENROL = encode(entry(1)).encode()
WRONG = [
    pytest.param(lambda p: frame(p, b"{}"), id="no value"),
    pytest.param(lambda p: frame(p, b"\xff\xfe"), id="no text"),
    pytest.param(lambda p: frame(p, b"[" * 100_000), id="nested without end"),
    pytest.param(lambda p: frame(p, b'{"os:system":{"command":"x"}}'), id="unknown type"),
    pytest.param(lambda p: frame(p, ENROL.replace(b'"rank":1', b'"rank":"1"')), id="wrong field"),
    pytest.param(lambda p: frame(p, ENROL.replace(b'"rank":1,', b"")), id="missing field"),
    pytest.param(lambda p: frame(p, ENROL.replace(b'"rank":1', b'"rank":1,"x":1')), id="field too many"),
    pytest.param(lambda p: frame(p, encode(Refused(reason="no")).encode()), id="wrong type"),
    pytest.param(lambda p: frame(p, ENROL, role="to client"), id="reflected"),
    pytest.param(lambda p: frame(p, ENROL, number=1), id="out of turn"),
    pytest.param(lambda p: frame(p, ENROL)[:-1] + b" ", id="changed"),
    pytest.param(lambda _: struct.pack("!Q", 1 << 62) + bytes(4096), id="huge length"),
]


@pytest.mark.parametrize("said", WRONG)
def test_who_knows_the_secret_and_talks_nonsense_is_dropped(
    desk: Desk, said: Callable[[Proofs], bytes]
) -> None:
    with served(desk):
        sock, proofs = proven(desk)
        with sock:
            sock.sendall(said(proofs))
            with pytest.raises(OSError):
                whole(sock, 1)
    assert desk.arrivals == []
    _, channel = enrolled(desk)
    channel.close()


def test_a_frame_counts_once(desk: Desk) -> None:
    with served(desk):
        sock, proofs = proven(desk)
        call = frame(proofs, encode(StoreCall(verb="add", keys=("n",), amount=1)).encode())
        with sock:
            sock.sendall(call)
            whole(sock, 36)
            sock.sendall(call)
            with contextlib.suppress(OSError):
                while sock.recv(4096):
                    pass
    assert desk.store.values == {"n": b"1"}


def test_an_agent_that_talks_nonsense_is_lost_with_a_sentence(desk: Desk) -> None:
    followers, channel = enrolled(desk)
    channel._sock.setblocking(True)
    channel._sock.sendall(b"nonsense" * 8)
    assert "its pytest process" in str(wait_for(lambda: followers.hear(1, 0)))
    assert followers.lost() == {1}


def test_what_only_a_launch_says_passes(desk: Desk) -> None:
    followers, channel = enrolled(desk)
    channel.send(FromRank(incarnation=3, message=Hello()))
    channel.send(CaseOver(merged=()))  # not an agent's to say: ignored
    assert wait_for(lambda: followers.hear(1, 3)) == [Hello()]
    channel.close()


def false_rank_zero(answer: Callable[[socket.socket], None]) -> socket.socket:
    """Listens where rank 0 should, without the secret."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = server.accept()
                with contextlib.suppress(OSError):
                    answer(sock)

    threading.Thread(target=run, daemon=True).start()
    return server


def claims(sock: socket.socket) -> None:
    """Answers like rank 0, with a proof that is none; what it is told is of no use to it."""
    sock.sendall(os.urandom(NONCE))
    answer = whole(sock, ANSWER)
    sock.sendall(answer[NONCE:])


@pytest.mark.parametrize(
    "answer", [claims, lambda sock: sock.close(), lambda sock: sock.sendall(b"x"), lambda _: None]
)
def test_a_false_rank_0_is_passed_by(desk: Desk, answer: Callable[[socket.socket], None]) -> None:
    server = false_rank_zero(answer)
    false = server.getsockname()[1]
    both = Meeting(hosts=("127.0.0.1",), ports=(false, desk.meeting.ports[0]), key=KEY)
    with served(desk):
        channel, at = connect(lambda: both, time.monotonic() + PATIENCE_S)
    assert at.ports == desk.meeting.ports
    channel.close()
    server.shutdown(socket.SHUT_RDWR)


def test_a_false_rank_0_alone_gets_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who tries to come asks every address, rests and asks again until it is too late: here, one rest."""
    clock = Clock()
    monkeypatch.setattr("fixtures.ranks.address.time", clock)
    monkeypatch.setattr("fixtures.ranks.address._PATIENCE_S", PATIENCE_S)
    server = false_rank_zero(claims)
    meeting = Meeting(hosts=("127.0.0.1",), ports=(server.getsockname()[1],), key=KEY)
    with pytest.raises(CannotStart, match="does not know the launch's secret"):
        connect(lambda: meeting, clock.monotonic() + PATIENCE_S)
    server.shutdown(socket.SHUT_RDWR)


def test_the_store_serves_ranks_and_nobody_else(desk: Desk) -> None:
    from torch import distributed as dist

    from fixtures.ranks.store import DeskStore

    with served(desk):
        store = DeskStore(desk.meeting)
        other = store.clone()
        store.set("a", "1")
        assert other.get("a") == b"1"
        assert [store.add("n", 2), other.add("n", 3)] == [2, 5]
        assert store.check(["a", "n"])
        assert not store.check(["a", "b"])
        assert store.compare_set("a", "2", "3") == b"1"
        assert store.compare_set("a", "1", "3") == b"3"
        assert store.compare_set("c", "", "4") == b"4"
        assert (store.num_keys(), store.delete_key("c"), store.delete_key("c")) == (3, True, False)
        late = threading.Timer(0.2, lambda: other.set("late", b"\0"))
        late.start()
        store.wait(["late", "a"], timedelta(seconds=PATIENCE_S))
        with pytest.raises(dist.DistStoreError, match=r"the store had no never within 0.2 s"):
            store.wait(["never"], timedelta(seconds=0.2))
        assert store.get("late") == b"\0"
        prefixed = dist.PrefixStore("gang1", store)
        prefixed.set("k", "v")
        assert desk.store.values["gang1/k"] == b"v"
        stranger = DeskStore(Meeting(hosts=("127.0.0.1",), ports=desk.meeting.ports, key=b"z" * 32), 0.5)
        with pytest.raises(dist.DistNetworkError, match="rank 0's pytest process cannot be reached"):
            stranger.set("a", "mine")
        with pytest.raises(RuntimeError):
            dist.TCPStore("127.0.0.1", desk.meeting.ports[0], timeout=timedelta(seconds=2)).set("a", "x")
        assert store.get("a") == b"3"
