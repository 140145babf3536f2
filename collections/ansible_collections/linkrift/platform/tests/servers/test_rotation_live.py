# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rotation on a real HAProxy: what visitors get while it changes, and what HAProxy does afterwards."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import time
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._rotation import Outcome, RotationError
from ansible_collections.linkrift.platform.tests.servers.haproxy_bench import EXECUTABLE, Balancer, Slot
from ansible_collections.linkrift.platform.tests.unit.certificate_fakes import make

pytestmark = pytest.mark.servers

FAILED = ("econ", "eresp", "wretr", "wredis", "hrsp_5xx")
BLUE = {"app1-blue": "ready", "app2-blue": "ready"}
TO_GREEN = {"app1-green": "ready", "app2-green": "ready", "app1-blue": "drain", "app2-blue": "drain"}
TO_BLUE = {"app1-blue": "ready", "app2-blue": "ready", "app1-green": "drain", "app2-green": "drain"}


@pytest.fixture(autouse=True)
def executable() -> None:
    """Fail, not skip, where there is no HAProxy: these tests are a gate."""
    if not Path(EXECUTABLE).exists():
        pytest.fail(f"{EXECUTABLE} is missing: apt-get install --no-install-recommends haproxy")


@pytest.fixture(params=[{}, {"retries": 0}], ids=["retries 3", "retries 0"])
def settings(request: pytest.FixtureRequest) -> dict[str, int]:
    return dict(request.param)


async def run(balancer: Balancer, changes: dict[str, str] | None = None, **options: object) -> Outcome:
    return await asyncio.to_thread(balancer.apply, changes, **options)


@pytest.fixture
async def balancer(tmp_path: Path) -> AsyncIterator[Balancer]:
    """HAProxy with two hosts; the blue slots take traffic, the green ones run and are in maint."""
    made = Balancer(tmp_path)
    async for ready in _serve(made):
        yield ready


@pytest.fixture
async def balancer_with(tmp_path: Path, settings: dict[str, int]) -> AsyncIterator[Balancer]:
    made = Balancer(tmp_path, services=settings)
    async for ready in _serve(made):
        yield ready


async def _serve(made: Balancer) -> AsyncIterator[Balancer]:
    async with made.serving():
        await run(made)
        await asyncio.to_thread(made.start)
        await run(made, BLUE)
        yield made


async def test_first_file_lets_nobody_in_until_a_change_says_so(tmp_path: Path) -> None:
    made = Balancer(tmp_path)
    outcome = await run(made)
    assert not outcome.running
    assert made.path.read_text().count(" disabled\n") == 4
    assert made.path.stat().st_mode & 0o777 == 0o640
    assert not (await run(made)).changed


async def test_switch_under_load_loses_and_repeats_nothing(balancer_with: Balancer) -> None:
    balancer = balancer_with
    before = balancer.counters()
    async with balancer.load() as visitors:
        for changes in (TO_GREEN, TO_BLUE, TO_GREEN):
            await asyncio.sleep(0.5)
            outcome = await run(balancer, changes)
            assert outcome.changed
            assert not outcome.reloaded
            gone = [balancer.slots[name] for name, state in changes.items() if state == "drain"]
            counted = [slot.requests for slot in gone]
            # Drained means drained: it can be stopped this very moment.
            for slot in gone:
                await slot.stop()
            await asyncio.sleep(0.5)
            assert [slot.requests for slot in gone] == counted
            for slot in gone:
                await slot.start()
    assert visitors.failures == []
    assert sum(visitors.answers.values()) > 500
    assert set(visitors.answers) == set(balancer.slots)
    after = balancer.counters()
    assert {name: after[name] - before[name] for name in FAILED} == dict.fromkeys(FAILED, 0)
    assert balancer.admins() == TO_GREEN
    assert not (await run(balancer, TO_GREEN)).changed


async def test_dead_server_gets_no_request_and_the_old_rotation_stays(balancer: Balancer) -> None:
    await balancer.slots["app1-green"].stop()
    text = balancer.path.read_text()
    before = balancer.counters()
    async with balancer.load() as visitors:
        with pytest.raises(
            RotationError, match=r"app1-green .* passed no check within 1 s: DOWN, last check L4CON"
        ) as failed:
            await run(balancer, TO_GREEN, check_timeout=1)
        await asyncio.sleep(0.3)
    assert "The old rotation is back as it was" in str(failed.value)
    assert "see whether the slot runs" in str(failed.value)
    assert visitors.failures == []
    assert set(visitors.answers) == set(BLUE)
    after = balancer.counters()
    assert {name: after[name] - before[name] for name in FAILED} == dict.fromkeys(FAILED, 0)
    assert balancer.path.read_text() == text
    assert balancer.admins() == BLUE | {"app1-green": "maint", "app2-green": "maint"}


@pytest.mark.parametrize(("health", "words"), [(404, "admit the slot on its host first"), (503, "journal on its host")])
async def test_only_a_full_pass_lets_a_server_in(balancer: Balancer, health: int, words: str) -> None:
    balancer.slots["app1-green"].health = health
    with pytest.raises(RotationError, match=rf"last check L7STS {health}.*{words}"):
        await run(balancer, {"app1-green": "ready"}, check_timeout=1)
    assert balancer.slots["app1-green"].requests == 0
    balancer.slots["app1-green"].health = 200
    await run(balancer, {"app1-green": "ready"}, check_timeout=1)
    assert balancer.servers()["app1-green"]["takes_traffic"]


async def test_check_before_the_change_does_not_count(balancer: Balancer) -> None:
    """A warm slot in drain was fine a moment ago; the step wants to know how it is now."""
    await run(balancer, TO_GREEN)
    slot = balancer.slots["app1-blue"]
    checks = slot.checks
    balancer.until(lambda: balancer.servers()["app1-blue"]["check_status"] == "L7OK")
    await run(balancer, {"app1-blue": "ready"})
    assert slot.checks > checks
    await run(balancer, {"app1-blue": "drain"})
    slot.health = 503
    with pytest.raises(RotationError, match="L7STS 503"):
        await run(balancer, {"app1-blue": "ready"}, check_timeout=1)
    assert slot.requests == 0


async def test_last_server_that_answers_stays(balancer: Balancer) -> None:
    with pytest.raises(RotationError, match="redirect would have no ready server left"):
        await run(balancer, dict.fromkeys(BLUE, "drain"))
    await balancer.slots["app2-blue"].stop()
    await asyncio.to_thread(balancer.until, lambda: balancer.servers()["app2-blue"]["status"] == "DOWN")
    with pytest.raises(RotationError, match=r"no server left that answers: app2-blue is DOWN .*L4CON"):
        await run(balancer, {"app1-blue": "drain"})
    assert balancer.admins()["app1-blue"] == "ready"
    await run(balancer, dict.fromkeys(BLUE, "drain"), allow_empty=True)
    assert set(balancer.admins().values()) == {"drain", "maint"}


async def test_drain_waits_for_the_last_request(balancer: Balancer) -> None:
    for slot in balancer.slots.values():
        slot.delay = 1.0
    async with balancer.load(rate=40, connections=20) as visitors:
        await asyncio.sleep(0.5)
        start = time.monotonic()
        await run(balancer, TO_GREEN)
        waited = time.monotonic() - start
        assert {name: balancer.servers()[name]["scur"] for name in BLUE} == dict.fromkeys(BLUE, 0)
        for name in BLUE:
            await balancer.slots[name].stop()
    assert waited > 0.5
    assert visitors.failures == []


async def test_drain_that_does_not_end_puts_the_old_rotation_back(balancer: Balancer) -> None:
    text = balancer.path.read_text()
    for name in BLUE:
        balancer.slots[name].delay = 4.0
    async with balancer.load(rate=40, connections=4) as visitors:
        await asyncio.sleep(0.3)
        with pytest.raises(RotationError, match=r"app\d-blue still has \d+ requests in progress.*old rotation is back"):
            await run(balancer, TO_GREEN, drain_timeout=1)
    assert visitors.failures == []
    assert balancer.path.read_text() == text
    assert balancer.admins() == BLUE | {"app1-green": "maint", "app2-green": "maint"}


async def test_new_servers_that_die_while_old_ones_drain_bring_those_back(balancer: Balancer) -> None:
    for name in BLUE:
        balancer.slots[name].delay = 6.0
    async with balancer.load(rate=40, connections=4):
        await asyncio.sleep(0.3)
        switch = asyncio.create_task(run(balancer, TO_GREEN))
        await asyncio.to_thread(balancer.until, lambda: balancer.admins() == TO_GREEN)
        start = time.monotonic()
        for name in ("app1-green", "app2-green"):
            await balancer.slots[name].stop()
        with pytest.raises(RotationError, match=r"redirect has no server left that answers") as failed:
            await switch
        # Long before the slow requests end, which it waited for.
        assert time.monotonic() - start < 4
    assert "The old rotation is back as it was" in str(failed.value)
    assert balancer.admins() == BLUE | {"app1-green": "maint", "app2-green": "maint"}


async def test_drain_that_is_not_required_lets_slow_requests_end(balancer: Balancer) -> None:
    for name in BLUE:
        balancer.slots[name].delay = 4.0
    async with balancer.load(rate=40, connections=4) as visitors:
        await asyncio.sleep(0.3)
        outcome = await run(balancer, TO_GREEN, drain_timeout=0.5, drain_required=False)
        assert [line for line in outcome.warnings if "still has" in line] == outcome.warnings != []
        assert balancer.admins() == TO_GREEN
        assert sum(balancer.servers()[name]["scur"] for name in BLUE) > 0
    assert visitors.failures == []


async def test_reload_and_restart_at_any_moment_come_back_with_the_rotation(balancer: Balancer) -> None:
    async with balancer.load() as visitors:
        await run(balancer, TO_GREEN)
        pid = balancer.haproxy.view().pid
        balancer.reload()
        await asyncio.to_thread(balancer.until, lambda: balancer.haproxy.view().pid != pid)
        assert balancer.admins() == TO_GREEN
        await asyncio.sleep(0.5)
        await run(balancer, TO_BLUE)
        for name in ("app1-green", "app2-green"):
            await balancer.slots[name].stop()
        await asyncio.sleep(0.3)
    assert visitors.failures == []
    await asyncio.to_thread(balancer.stop)
    await asyncio.to_thread(balancer.start)
    assert balancer.admins() == TO_BLUE
    assert not (await run(balancer, TO_BLUE)).changed


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.06, 0.1, 0.2, 0.3])
async def test_reload_in_the_middle_of_a_step_changes_nothing(balancer: Balancer, moment: float) -> None:
    before = balancer.counters()
    async with balancer.load() as visitors:
        await asyncio.sleep(0.3)
        step = asyncio.create_task(run(balancer, TO_GREEN))
        await asyncio.sleep(moment)
        balancer.reload()
        await step
        # The signal may only be heard when the step is over.
        await asyncio.to_thread(balancer.until, balancer.settled)
        assert balancer.admins() == TO_GREEN
        for name in BLUE:
            await balancer.slots[name].stop()
        await asyncio.sleep(0.5)
        assert balancer.admins() == TO_GREEN
    assert visitors.failures == []
    assert before["wretr"] == balancer.counters()["wretr"] == 0


async def test_old_worker_holds_the_drain_until_it_ends(balancer: Balancer) -> None:
    """It was told nothing of the change, and goes on sending to the old slot for whoever is connected to it."""
    balancer.slots["app1-blue"].delay = balancer.slots["app2-blue"].delay = 2.5
    async with balancer.load(rate=20, connections=4) as visitors:
        await asyncio.sleep(0.5)
        pid = balancer.haproxy.view().pid
        balancer.reload()
        await asyncio.to_thread(balancer.until, lambda: balancer.haproxy.view().pid != pid)
        with pytest.raises(RotationError, match=rf"workers of an earlier reload still hold connections \({pid}\)"):
            await run(balancer, TO_GREEN, drain_timeout=0.5)
        await run(balancer, TO_GREEN)
        assert balancer.old_workers() == ()
    assert visitors.failures == []


async def test_new_and_removed_hosts_need_one_reload_and_nobody_notices(balancer: Balancer) -> None:
    for slot in balancer.add_host("app3"):
        await slot.start()
    async with balancer.load() as visitors:
        outcome = await run(balancer, {"app3-blue": "ready"})
        assert outcome.reloaded
        assert balancer.admins() == BLUE | {
            "app1-green": "maint",
            "app2-green": "maint",
            "app3-blue": "ready",
            "app3-green": "maint",
        }
        assert not (await run(balancer)).changed
        gone = [balancer.slots.pop(name) for name in ("app1-blue", "app1-green")]
        outcome = await run(balancer)
        assert outcome.reloaded
        assert set(balancer.admins()) == {"app2-blue", "app2-green", "app3-blue", "app3-green"}
    assert visitors.failures == []
    for slot in gone:
        await slot.stop()


async def test_moved_server_is_checked_where_it_is_now(balancer: Balancer) -> None:
    # Without retries nothing hides a request that goes where nobody listens. HAProxy checks the first server at once
    # and the others spread over the interval, so the second host's is the one that could get some.
    balancer.settings["retries"] = 0
    await run(balancer)
    old, new = balancer.slots["app2-blue"], Slot("app2-blue")
    balancer.slots["app2-blue"] = new
    async with balancer.load() as visitors:
        with pytest.raises(RotationError, match=r"app2-blue .*L4CON"):
            await run(balancer, check_timeout=1)
        await new.start()
        outcome = await run(balancer)
        await asyncio.sleep(0.3)
    assert visitors.failures == []
    assert outcome.reloaded
    assert new.requests > 0
    await old.stop()


async def test_slot_that_turns_to_standby_is_left_alone_by_a_balancer_that_nobody_told(balancer: Balancer) -> None:
    slot = balancer.slots["app1-blue"]
    async with balancer.load() as visitors:
        await asyncio.sleep(0.3)
        slot.health = 404
        await asyncio.to_thread(balancer.until, lambda: balancer.servers()["app1-blue"]["status"] == "NOLB")
        await asyncio.sleep(0.2)
        requests = slot.requests
        await asyncio.sleep(0.5)
        assert slot.requests == requests
        slot.health = 200
        await asyncio.to_thread(balancer.until, lambda: balancer.servers()["app1-blue"]["takes_traffic"])
        await asyncio.sleep(0.3)
        assert slot.requests > requests
    assert visitors.failures == []


async def test_file_that_haproxy_refuses_is_never_put_in_place(balancer: Balancer) -> None:
    text = balancer.path.read_text()
    balancer.main.write_text(balancer.main.read_text() + "nonsense\n")
    with pytest.raises(RotationError, match=r"refuses the backends file.*unknown keyword 'nonsense'"):
        await run(balancer, TO_GREEN)
    assert balancer.path.read_text() == text
    assert balancer.admins() == BLUE | {"app1-green": "maint", "app2-green": "maint"}
    assert sorted(path.name for path in balancer.directory.glob("*.new")) == []


async def test_check_mode_changes_nothing(balancer: Balancer) -> None:
    text, admins = balancer.path.read_text(), balancer.admins()
    assert balancer.rotation(TO_GREEN).predict().changed
    assert not balancer.rotation(BLUE).predict().changed
    assert balancer.path.read_text() == text
    assert balancer.admins() == admins


async def test_states_survive_the_loss_of_the_file(balancer: Balancer) -> None:
    text = balancer.path.read_text()
    balancer.path.unlink()
    await run(balancer)
    assert balancer.path.read_text() == text


async def test_what_was_changed_by_hand_is_put_right(balancer: Balancer) -> None:
    balancer.haproxy.command("set server linkrift_redirect/app1-blue state maint")
    balancer.haproxy.command("set server linkrift_redirect/app1-green state ready")
    outcome = await run(balancer)
    assert outcome.changed
    assert balancer.admins() == BLUE | {"app1-green": "maint", "app2-green": "maint"}


@pytest.mark.parametrize("steps", range(6))
def test_slot_that_stops_leaves_no_connection_open(steps: int) -> None:
    """However far the loop was with it: what stays open is told to whichever test runs when Python collects it."""

    async def stop() -> None:
        slot = Slot("app1-blue")
        await slot.start()
        with socket.create_connection(("127.0.0.1", slot.port)):
            for _turn in range(steps):
                await asyncio.sleep(0)
            await slot.stop()

    gc.collect()  # what other tests left is not this one's
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(stop())
        gc.collect()
    assert [str(warning.message) for warning in told] == []


# --- TLS ---

NAME = "redirect.services.linkrift.internal"


class Certificates:
    """What the slots of a test show, and whom the balancer believes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authorities = {name: make(f"{name} authority", authority=True) for name in ("our", "other")}
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_text(self.authorities["our"].pem)

    def context(self, name: str = NAME, authority: str = "our") -> ssl.SSLContext:
        """Return what a slot with a certificate for a name listens with."""
        made = make(name, issuer=self.authorities[authority])
        path = self.directory / f"{name}-{authority}.pem"
        path.write_text(made.pem + made.key_pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
async def secure(tmp_path: Path, certificates: Certificates) -> AsyncIterator[Balancer]:
    """HAProxy that speaks with its slots by TLS; no retry hides a request that goes to a wrong one."""
    tls = {"ca_file": str(certificates.ca_file), "verify_host": NAME}
    made = Balancer(tmp_path, services={"tls": tls, "retries": 0})
    for slot in made.slots.values():
        slot.tls = certificates.context()
    async for ready in _serve(made):
        yield ready


async def test_slots_with_the_right_certificate_serve_by_tls(secure: Balancer) -> None:
    before = secure.counters()
    async with secure.load() as visitors:
        for wanted in (TO_GREEN, TO_BLUE):
            await asyncio.sleep(0.3)
            await run(secure, wanted)
        await asyncio.sleep(0.3)
    assert visitors.failures == []
    assert set(visitors.answers) == set(secure.slots)
    after = secure.counters()
    assert {name: after[name] - before[name] for name in FAILED} == dict.fromkeys(FAILED, 0)


@pytest.mark.parametrize("wrong", ["name", "authority", "plain"])
async def test_slot_that_cannot_prove_who_it_is_gets_no_request(
    secure: Balancer, certificates: Certificates, wrong: str
) -> None:
    contexts = {
        "name": lambda: certificates.context("api.services.linkrift.internal"),
        "authority": lambda: certificates.context(authority="other"),
        "plain": lambda: None,
    }
    slot = secure.slots["app1-green"]
    await slot.stop()
    slot.tls = contexts[wrong]()
    await slot.start()
    async with secure.load() as visitors:
        with pytest.raises(RotationError, match=r"app1-green .* passed no check .* last check L6.*prove by TLS"):
            # Who speaks no TLS says nothing at all: that check ends after its 2 s.
            await run(secure, TO_GREEN, check_timeout=3)
        # One that is live and comes back as somebody else is found down.
        live = secure.slots["app1-blue"]
        await run(secure, {"app1-blue": "drain"})
        await live.stop()
        live.tls, counted = contexts[wrong](), live.requests
        await live.start()
        await asyncio.to_thread(secure.until, lambda: secure.servers()["app1-blue"]["check_status"].startswith("L6"))
        await asyncio.sleep(0.3)
    assert visitors.failures == []
    assert (slot.requests, live.requests) == (0, counted)
    assert (slot.checks, secure.servers()["app1-green"]["admin"]) == (0, "maint")


async def test_tls_is_not_turned_on_under_live_slots_but_in_a_maintenance_window(
    balancer: Balancer, certificates: Certificates
) -> None:
    balancer.settings["tls"] = {"ca_file": str(certificates.ca_file), "verify_host": NAME}
    text = balancer.path.read_text()
    async with balancer.load() as visitors:
        with pytest.raises(RotationError, match="redirect would be spoken to by TLS"):
            await run(balancer)
        await asyncio.sleep(0.3)
    assert visitors.failures == []
    assert balancer.path.read_text() == text
    tls = balancer.settings.pop("tls")
    await run(balancer, dict.fromkeys(BLUE, "drain"), allow_empty=True)
    balancer.settings["tls"] = tls
    for slot in balancer.slots.values():
        await slot.stop()
        slot.tls = certificates.context()
        await slot.start()
    assert (await run(balancer)).reloaded
    await run(balancer, BLUE)
    async with balancer.load() as visitors:
        await asyncio.sleep(0.3)
    assert visitors.failures == []
    assert set(visitors.answers) == set(BLUE)
