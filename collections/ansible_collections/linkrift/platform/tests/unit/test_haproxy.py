# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What HAProxy answers at its sockets, as recorded from Debian's 2.6 and 3.0, and sockets that misbehave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import (
    Haproxy,
    HaproxyDownError,
    HaproxyError,
    Socket,
    parse_view,
    parse_workers,
)

STATE = (
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight"
    " srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state"
    " bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr"
    " srv_agent_addr srv_agent_port"
)
STAT = (
    "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,"
    "act,bck,chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,"
    "check_status,check_code,check_duration,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,hanafail,"
    "req_rate,req_rate_max,req_tot,cli_abrt,srv_abrt,comp_in,comp_out,comp_byp,comp_rsp,lastsess,last_chk,last_agt,"
    "qtime,ctime,rtime,ttime,agent_status,agent_code,agent_duration,check_desc,agent_desc,check_rise,check_fall,"
    "check_health,agent_rise,agent_fall,agent_health,addr,"
)
ROWS = [
    (
        "linkrift_api,app9-blue,0,0,0,7,,253,25806,86526,,0,,0,0,0,0,DRAIN,100,1,0,0,0,220,0,,1,5,1,,253,,2,0"
        ",,201,L7OK,200,4,0,253,0,0,0,0,,,,253,0,0,,,,,219,,,0,1,2,39,,,,Layer7 check passed,,1,2,2,,,,198.18"
        ".49.21:8080,"
    ),
    (
        "linkrift_api,app9-green,0,0,0,0,,0,0,0,,0,,0,0,0,0,MAINT,100,1,0,0,0,82,82,,1,4,2,,0,,2,0,,0,,,,0,0,"
        "0,0,0,0,,,,0,0,0,,,,,-1,,,0,0,0,0,,,,,,,,,,,,198.18.49.21:8180,"
    ),
    (
        "linkrift_redirect,app9-blue,0,0,0,0,,0,0,0,,0,,0,0,0,0,UP,0,1,0,0,0,82,0,,1,5,1,,0,,2,0,,0,L7OK,200,"
        "0,0,0,0,0,0,0,,,,0,0,0,,,,,-1,,,0,0,0,0,,,,Layer7 check passed,,1,2,2,,,,198.18.49.21:8081,"
    ),
    (
        "linkrift_redirect,app9-green,0,0,3,8,,1270,129540,434340,,0,,1,2,3,4,UP,100,1,0,0,1,219,1,,1,5,2,,12"
        "70,,2,0,,216,* L7OK,0,13,0,1270,0,0,7,0,,,,1270,0,0,,,,,212,,,0,0,2,39,,,,Layer7 check passed,,1,2,2"
        ",,,,198.18.49.21:8181,"
    ),
    (
        "linkrift_redirect,app8-blue,0,0,0,0,,0,0,0,,0,,0,0,0,0,DOWN,100,1,0,1,1,1,1,,1,3,3,,0,,2,0,,0,L4CON,"
        ',0,0,0,0,0,0,0,,,,0,0,0,,,,,-1,"Connection ""refused"", twice",,0,0,0,0,,,,Layer4 connection problem'
        ",,1,2,0,,,,198.18.49.20:8081,"
    ),
    (
        "linkrift_redirect,app8-green,0,0,0,0,,0,0,0,,0,,0,0,0,0,NOLB,100,1,0,1,1,1,1,,1,3,3,,0,,2,0,,0,L7OKC"
        ",404,0,0,0,0,0,0,0,,,,0,0,0,,,,,-1,,,0,0,0,0,,,,Layer7 check conditionally passed,,1,2,0,,,,198.18.4"
        "9.20:8181,"
    ),
]
NEWLINE = "\n"
RECORDED = f"""\
Name: HAProxy
Version: 2.6.12-1+deb12u4
Pid: 2199
Stopping: 0

LINKRIFT_ROTATION=197eb2e263fca491

1
{STATE}
4 linkrift_api 1 app9-blue 198.18.49.21 2 8 100 100 220 15 3 4 6 0 0 0 - 8080 - 0 0 - - 0
4 linkrift_api 2 app9-green 198.18.49.21 0 5 100 100 82 1 0 0 14 0 0 0 - 8180 - 0 0 - - 0
5 linkrift_redirect 1 app9-blue 198.18.49.21 2 0 0 0 82 15 3 2 6 0 0 0 - 8081 - 0 0 - - 0
5 linkrift_redirect 2 app9-green 198.18.49.21 2 4 100 100 82 15 3 2 6 0 0 0 - 8181 - 0 0 - - 0
5 linkrift_redirect 3 app8-blue 198.18.49.20 0 0 100 100 82 8 2 0 6 0 0 0 - 8081 - 0 0 - - 0
5 linkrift_redirect 4 app8-green 198.18.49.20 3 4 100 100 82 8 2 0 6 0 0 0 - 8181 - 0 0 - - 0

{STAT}
{NEWLINE.join(ROWS)}

"""
PROCESSES = """\
#<PID>          <type>          <reloads>       <uptime>        <version>
483             master          10 [failed: 0]  0d00h16m00s     3.0.11-1+deb13u5
# workers
1291            worker          0               0d00h03m40s     3.0.11-1+deb13u5
# old workers
1204            worker          1               0d00h05m40s     3.0.11-1+deb13u5
1109            worker          2               0d00h06m40s     3.0.11-1+deb13u5
# programs

"""


def test_view_has_every_server_with_what_it_does() -> None:
    view = parse_view(RECORDED)
    assert (view.pid, view.stopping, view.version, view.digest) == (2199, False, "2.6.12-1+deb12u4", "197eb2e263fca491")
    found = {
        key: (server.admin, server.status, server.takes_traffic, server.passing) for key, server in view.servers.items()
    }
    assert found == {
        ("linkrift_api", "app9-blue"): ("drain", "DRAIN", False, True),
        ("linkrift_api", "app9-green"): ("maint", "MAINT", False, False),
        # `weight 0` in the file: HAProxy calls it UP, and sends it nothing.
        ("linkrift_redirect", "app9-blue"): ("drain", "UP", False, True),
        # 4 only says that it began as disabled.
        ("linkrift_redirect", "app9-green"): ("ready", "UP", True, True),
        ("linkrift_redirect", "app8-blue"): ("ready", "DOWN", False, False),
        ("linkrift_redirect", "app8-green"): ("ready", "NOLB", False, False),
    }


def test_view_has_figures_and_words() -> None:
    servers = parse_view(RECORDED).servers
    busy = servers[("linkrift_redirect", "app9-green")]
    assert (busy.scur, busy.weight, busy.address) == (3, 100, "198.18.49.21:8181")
    assert busy.counters == {
        "stot": 1270,
        "econ": 1,
        "eresp": 2,
        "wretr": 3,
        "wredis": 4,
        "hrsp_2xx": 1270,
        "hrsp_3xx": 0,
        "hrsp_4xx": 0,
        "hrsp_5xx": 7,
    }
    # The next check is on its way: what counts is the last result.
    assert (busy.check_status, busy.check_code) == ("L7OK", "")
    dead = servers[("linkrift_redirect", "app8-blue")]
    assert dead.last_check() == 'last check L4CON Connection "refused", twice'
    assert servers[("linkrift_api", "app9-green")].last_check() == "no check ran"
    assert servers[("linkrift_redirect", "app8-green")].last_check() == "last check L7OKC 404"


def test_view_of_an_old_worker_without_our_backends() -> None:
    text = RECORDED.replace("Stopping: 0", "Stopping: 1").replace(
        "LINKRIFT_ROTATION=197eb2e263fca491", "Variable not found"
    )
    view = parse_view(text)
    assert view.stopping
    assert view.digest is None


@pytest.mark.parametrize("text", ["", "\n\n", RECORDED.replace("Pid: 2199\n", ""), RECORDED.partition("# pxname")[0]])
def test_part_of_an_answer_is_no_answer(text: str) -> None:
    with pytest.raises(HaproxyError, match="no whole answer"):
        parse_view(text)


def test_workers() -> None:
    workers = parse_workers(PROCESSES)
    assert workers
    assert (workers.current, workers.old) == (1291, (1204, 1109))
    # While the master loads a configuration its connection ends with nothing, or it has no worker yet.
    assert parse_workers("") is None
    assert parse_workers(PROCESSES.partition("# workers")[0]) is None


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start a socket that gives one answer to one connection."""
    threads: list[threading.Thread] = []

    def start(answer: bytes, wait_for_end: bool = True) -> str:
        path = str(tmp_path / f"s{len(threads)}")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()

        def answer_once() -> None:
            with listener:
                connection, _dummy = listener.accept()
                with connection:
                    connection.settimeout(5)
                    asked = b""
                    while wait_for_end and (chunk := connection.recv(4096)):
                        asked += chunk
                    connection.sendall(answer.replace(b"<asked>", asked))

        thread = threading.Thread(target=answer_once)
        thread.start()
        threads.append(thread)
        return path

    yield start
    for thread in threads:
        thread.join(10)


def test_commands_go_in_one_connection_whose_end_is_announced(serve: Callable[..., str]) -> None:
    # The master's socket answers, but goes on listening until its client ends the connection.
    assert Socket(serve(b"<asked>")).ask("one", "two words") == "one;two words\n"


def test_command_that_answers_has_failed(serve: Callable[..., str]) -> None:
    Haproxy(Socket(serve(b"\n\n")), None).command("set server a/b state ready")
    with pytest.raises(HaproxyError, match=r"'set server a/b state ready; x': No such server\."):
        Haproxy(Socket(serve(b"No such server.\n\n")), None).command("set server a/b state ready", "x")


def test_socket_that_is_not_there_is_not_the_same_as_one_that_breaks(tmp_path: Path) -> None:
    with pytest.raises(HaproxyDownError, match="nothing listens at"):
        Socket(str(tmp_path / "none")).ask("show info")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "left"))
    listener.close()
    with pytest.raises(HaproxyDownError):
        Socket(str(tmp_path / "left")).ask("show info")
    with pytest.raises(HaproxyError) as error:
        Socket(str(tmp_path / ("long" * 40))).ask("show info")
    assert not isinstance(error.value, HaproxyDownError)


def test_socket_that_says_nothing_runs_into_its_deadline(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "mute"))
        listener.listen()
        with pytest.raises(HaproxyError, match="no whole answer to 'show info'"):
            Socket(str(tmp_path / "mute"), timeout=0.1).ask("show info")


def test_workers_need_a_master() -> None:
    haproxy = Haproxy(Socket("none"), None)
    assert not haproxy.has_master
    assert haproxy.workers() is None


CERTIFICATE = """\
Filename: /etc/haproxy/certs/linkrift.pem
Status: Used
Serial: 0f96F477EB
notAfter: Dec 22 04:04:31 2026 GMT
SHA1 FingerPrint: D91F9EC846687A6CE6D7D8CB5BAE487A0F93916E
Subject: /CN=t1
"""


class Script(Socket):
    """A socket that gives scripted answers and remembers what it was asked."""

    def __init__(self, *answers: str) -> None:
        super().__init__("script")
        self.answers = list(answers)
        self.asked: list[str] = []

    def _exchange(self, text: str, shown: str) -> str:
        assert "KEY" not in shown
        self.asked.append(text)
        return self.answers.pop(0)


def test_certificate_that_is_loaded() -> None:
    loaded = Haproxy(Script(CERTIFICATE), None).certificate("/etc/haproxy/certs/linkrift.pem")
    assert loaded
    assert loaded.fingerprint == "D91F9EC846687A6CE6D7D8CB5BAE487A0F93916E"
    unknown = "Can't display the certificate: Not found or the certificate is a bundle!\n\n"
    assert Haproxy(Script(unknown), None).certificate("/x") is None


def test_certificate_is_set_and_committed() -> None:
    script = Script("Transaction created for certificate /x!\n", "Committing /x.\nSuccess!\n")
    Haproxy(script, None).load_certificate("/x", "PEM KEY\n")
    assert script.asked == ["set ssl cert /x <<\nPEM KEY\n\n", "commit ssl cert /x\n"]


@pytest.mark.parametrize("answers", [["unable to load"], ["Transaction updated", "Failed!"]])
def test_certificate_that_is_not_taken_is_aborted(answers: list[str]) -> None:
    script = Script(*answers, "Transaction aborted")
    with pytest.raises(HaproxyError, match=rf"does not take the certificate for /x: {answers[-1]}"):
        Haproxy(script, None).load_certificate("/x", "PEM KEY\n")
    assert script.asked[-1] == "abort ssl cert /x\n"


def test_patterns_are_replaced_in_one_step() -> None:
    assert Haproxy(Script("0x5574 10.0.0.0/8\n0x5575 2001:db8::/32\n\n"), None).patterns("/x") == [
        "10.0.0.0/8",
        "2001:db8::/32",
    ]
    assert Haproxy(Script("Unknown ACL identifier. Please use #<id> or <file>.\n"), None).patterns("/x") is None
    script = Script("New version created: 7\n", "\n", "\n", "\n")
    Haproxy(script, None).replace_patterns("/x", [f"10.0.{number}.0/24" for number in range(60)])
    assert [text.count("add acl @7 /x 10.") for text in script.asked] == [0, 50, 10, 0]
    assert script.asked[-1] == "commit acl @7 /x\n"
    with pytest.raises(HaproxyError, match="does not prepare /x: Unknown ACL"):
        Haproxy(Script("Unknown ACL identifier."), None).replace_patterns("/x", [])
