"""What goes wrong with a deploy: bad releases, and a world that changes under it. One entry each, for part `faults`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tools.bench.releases import CANDIDATES, COMMIT, SWITCH

SECOND = "second"
"""The second application host: the first one has moved already when something goes wrong there."""
BALANCERS = "balancers"
STORE = "store"


@dataclass(frozen=True)
class Act:
    """Something that somebody does to hosts.

    Attributes:
        where: SECOND, BALANCERS or STORE.
        command: For the shell. `{idle_port}` and `{address}` are those of the redirect slot that is not live there.
    """

    where: str
    command: str


@dataclass(frozen=True)
class Case:
    """Something that goes wrong, and what is to come of it.

    Attributes:
        name: Its name.
        bundle: Which release is taken live: faulty, good (an untouched one), fresh (one that no host has), truncated,
            altered, foreign, migration (its migration fails).
        faults: What goes wrong on the second host, by service, as tools/testing/faulty knows it.
        services: What is deployed.
        settings: For the deploy, besides.
        fails: It is refused, and everything is as before. Otherwise it goes live.
        words: What the deploy has to say then.
        noticed: Visitors may notice.
        restarted: HAProxy's counters begin anew.
        before: Done before, and `after` in any case.
        after: See there.
        during: Done when the task of this name begins for the first time.
        clicked: Visitors follow a link whose clicks are counted, unlike the canary's, and each of them has to be.
        alongside: A playbook that runs beside it from then on, and has to succeed.
    """

    name: str
    bundle: str = "faulty"
    faults: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    services: str = "redirect"
    settings: Mapping[str, object] = field(default_factory=dict)
    fails: bool = True
    words: Sequence[str] = ()
    noticed: bool = False
    restarted: bool = False
    before: Sequence[Act] = ()
    after: Sequence[Act] = ()
    during: Mapping[str, Act] = field(default_factory=dict)
    clicked: bool = False
    alongside: Mapping[str, str] = field(default_factory=dict)


# An upgrade without a newer package: the same files are unpacked, and the same scripts run. Debian's reload it.
UPGRADE = (
    "sudo DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=60"
    " install --reinstall haproxy"
)
SHORT: Mapping[str, object] = {"rollout_gate_deadline": 8}
WATCHED: Mapping[str, object] = {"stabilisation": 12}


def _redirect(name: str, fault: Mapping[str, object], words: Sequence[str]) -> Case:
    return Case(name, faults={"redirect": fault}, settings=SHORT, words=words)


CASES: Sequence[Case] = (
    # Releases that are bad.
    _redirect("ends at once", {"fault": "exit"}, ["redirect", "exit"]),
    _redirect("never ready", {"fault": "never_ready"}, ["never ready, on purpose"]),
    _redirect("another version", {"fault": "wrong_version"}, ["0.0.0+000000000000"]),
    _redirect("answers with errors", {"fault": "answers_500"}, ["500"]),
    _redirect("complains", {"fault": "logs_errors", "from_start": True}, ["lines of level error or worse"]),
    _redirect("slower than the gate", {"fault": "slow_start", "seconds": 60.0}, ["redirect"]),
    Case("slow to start", faults={"redirect": {"fault": "slow_start", "seconds": 5.0}}, fails=False),
    Case(
        "memory grows while it is watched",
        faults={"redirect": {"fault": "leaks", "mib": 300.0, "most": 1000.0}},
        settings=WATCHED,
        words=["MiB in use"],
    ),
    Case(
        "errors only once visitors come",
        faults={"redirect": {"fault": "fails_after", "seconds": 4.0}},
        settings=WATCHED,
        words=["hrsp_5xx"],
        noticed=True,
    ),
    # What goes live next has it stopped: systemd kills it in the end.
    Case("ignores SIGTERM", faults={"redirect": {"fault": "ignores_sigterm"}}, fails=False),
    Case("an api with errors", faults={"api": {"fault": "answers_500"}}, services="api", settings=SHORT, words=["500"]),
    Case("a worker that ends", faults={"worker": {"fault": "exit"}}, services="worker", settings=SHORT),
    Case("a worker never ready", faults={"worker": {"fault": "never_ready"}}, services="worker", settings=SHORT),
    Case(
        "a worker that stores nothing",
        faults={"worker": {"fault": "stores_nothing"}},
        services="worker",
        # A batch is due after five seconds.
        settings={"stabilisation": 20, "rollout_gate_overdue": 5},
        words=["the worker has had clicks to store for"],
        clicked=True,
    ),
    Case("a transfer that broke off", bundle="truncated"),
    Case("a bundle that was altered", bundle="altered", words=["SHA256SUMS"]),
    Case("a bundle for other hosts", bundle="foreign", words=["was built for"]),
    Case("a migration that fails", bundle="migration", services="api,redirect,worker", words=["division by zero"]),
    # A world that is in the way.
    Case(
        "a setting is missing",
        bundle="good",
        settings=SHORT,
        words=["LINKRIFT_DB_HOST"],
        before=[
            Act(SECOND, "sudo cp -a /etc/linkrift/redirect.env /etc/linkrift/redirect.env.kept"),
            Act(SECOND, "sudo sed -i /^LINKRIFT_DB_HOST=/d /etc/linkrift/redirect.env"),
        ],
        after=[Act(SECOND, "sudo mv /etc/linkrift/redirect.env.kept /etc/linkrift/redirect.env")],
    ),
    Case(
        "the candidate's port is taken",
        bundle="good",
        settings=SHORT,
        words=["python3 (process", "listens there: stop it"],
        before=[
            Act(
                SECOND,
                "sudo systemd-run --quiet --collect --unit=linkrift-squatter"
                " python3 -m http.server --bind {address} {idle_port}",
            )
        ],
        after=[Act(SECOND, "sudo systemctl stop linkrift-squatter")],
    ),
    Case(
        "the bundle store is away",
        bundle="fresh",
        before=[Act(STORE, "sudo systemctl stop nginx")],
        after=[Act(STORE, "sudo systemctl start nginx")],
    ),
    Case(
        "HAProxy is reloaded before the switch",
        bundle="good",
        fails=False,
        restarted=True,
        during={CANDIDATES: Act(BALANCERS, "sudo systemctl reload haproxy")},
    ),
    Case(
        "HAProxy is reloaded in the switch",
        bundle="good",
        fails=False,
        restarted=True,
        during={SWITCH: Act(BALANCERS, "sudo systemctl reload haproxy")},
    ),
    Case(
        "HAProxy is upgraded while candidates start",
        bundle="good",
        fails=False,
        restarted=True,
        during={CANDIDATES: Act(BALANCERS, UPGRADE)},
    ),
    Case(
        "HAProxy is upgraded in the switch",
        bundle="good",
        fails=False,
        restarted=True,
        during={SWITCH: Act(BALANCERS, UPGRADE)},
    ),
    # Its restart closes what is open: that is what visitors may notice, and nothing else.
    Case(
        "HAProxy is restarted after the switch",
        bundle="good",
        fails=False,
        noticed=True,
        restarted=True,
        during={COMMIT: Act(BALANCERS, "sudo systemctl restart haproxy")},
    ),
    Case("site.yml in the middle", bundle="good", fails=False, alongside={CANDIDATES: "site"}),
)
