"""Creating and destroying a whole lab: the order of things, and what a killed earlier run left."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from . import access, archives, cgroups, host, image, machine, network
from .errors import LabError
from .plan import BASE, HostSpec, Lab
from .registry import Registry, lab_lock
from .run import try_run, wait_for

_T = TypeVar("_T")
_AT_ONCE = 8


def _each(work: Callable[[HostSpec], _T], specs: Iterable[HostSpec]) -> dict[str, _T]:
    """Do something for all hosts at once and return what came out, by host."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = {spec.name: pool.submit(work, spec) for spec in specs}
        return {name: future.result() for name, future in running.items()}


def layers_in_use(base: Path = BASE) -> set[Path]:
    """Images and archive layers that some host of some lab is made from."""
    found: set[Path] = set()
    for file in (base / "labs").glob("*/hosts/*/host.json"):
        made_from = host.Host(Lab(int(file.parts[-4]), "", Path("/"), base), file.parent.name).made_from()
        found.update(Path(made_from[key]) for key in ("image", "archives") if made_from.get(key))
    return found


def present_hosts(lab: Lab) -> list[host.Host]:
    """All hosts of a lab that left anything on this machine: a directory or a control group."""
    names = {path.name for path in (lab.state / "hosts").glob("*")}
    for group in cgroups.of_lab(lab.number):
        names.update(path.name for path in group.iterdir() if path.is_dir())
    return [host.Host(lab, name) for name in sorted(names)]


def settings_for(lab: Lab) -> host.Settings:
    """What the hosts of a lab get from the machine; the rest of it is in their images already."""
    return host.Settings(
        resolv_conf=machine.resolv_conf(),
        environment=machine.environment_lines(os.environ),
        pip_conf=machine.machine_pip_settings(),
        authorized_key=access.authorized_key(lab),
        mtu=network.uplink_mtu(),
    )


def start_hosts(lab: Lab, specs: list[HostSpec]) -> list[str]:
    """Bring the hosts of a lab up; those that run stay as they are, those that died boot again with their files.

    Args:
        lab: The lab; its network exists.
        specs: All of its hosts; others that it had before are removed.

    Returns:
        Names of the hosts that were not running.
    """
    settings = settings_for(lab)
    images = {suite: image.ensure(suite)[0].path for suite in {spec.suite for spec in specs}}
    kept = {suite: archives.current(suite, lab.base) for suite in images}
    wanted = {spec.name for spec in specs}
    _each(lambda spec: host.remove(host.Host(lab, spec.name)), _strangers(lab, wanted))

    def start(spec: HostSpec) -> bool:
        mine = host.Host(lab, spec.name)
        made_from = mine.made_from()
        same = made_from and made_from["suite"] == spec.suite and made_from["octet"] == str(spec.octet)
        if same and Path(made_from["image"]).is_dir():
            if host.process(mine) is not None:
                return False
        else:
            host.clear(mine)
            host.prepare(mine, spec, image=images[spec.suite], archives=kept[spec.suite], settings=settings)
        host.boot(mine)
        return True

    started = sorted(name for name, changed in _each(start, specs).items() if changed)
    if started:
        access.close_connections(lab)
    return started


def _strangers(lab: Lab, wanted: set[str]) -> list[HostSpec]:
    return [HostSpec(found.name, "", 0) for found in present_hosts(lab) if found.name not in wanted]


def wait_until_reachable(lab: Lab, specs: list[HostSpec], *, seconds: float) -> None:
    """Wait until every host lets the lab's user log in.

    Raises:
        LabError: One did not in that time, or ended while it booted; the text has the last line of its console.
    """

    def reachable(spec: HostSpec) -> None:
        mine = host.Host(lab, spec.name)
        login = ["ssh", "-F", str(lab.directory / "ssh_config"), spec.name, "true"]

        def answers() -> bool:
            if host.process(mine) is None:
                raise LabError(f"host {spec.name} ended while it booted: {host.last_words(mine)}")
            try:
                with socket.create_connection((str(lab.address(spec)), 22), timeout=2) as connection:
                    if not connection.recv(4).startswith(b"SSH"):
                        return False
            except OSError:
                return False
            return try_run(login, timeout=15)

        if not wait_for(answers, seconds=seconds, poll=0.25):
            raise LabError(f"host {spec.name} takes no login after {seconds:.0f} s: {host.last_words(mine)}")

    _each(reachable, specs)


def create(
    lab: Lab, specs: list[HostSpec], *, children: dict[str, list[str]], shared: Path, seconds: float = 90.0
) -> list[str]:
    """Bring the hosts of a lab up and write down how to reach them.

    Args:
        lab: The lab; its network exists.
        specs: All of its hosts.
        children: For each parent group its children.
        shared: Directory whose `group_vars` the lab's inventory shares.
        seconds: How long a host may take to boot.

    Returns:
        Names of the hosts that were not running.

    Raises:
        LabError: A host does not come up.
    """
    with lab_lock(lab):
        started = start_hosts(lab, specs)
        keys = {spec.name: host.Host(lab, spec.name).host_key() for spec in specs}
        access.write(lab, specs, children, keys, shared)
        wait_until_reachable(lab, specs, seconds=seconds)
    return started


def stop(lab: Lab) -> list[str]:
    """Shut the hosts of a lab down in order and return which ran; their files stay."""
    with lab_lock(lab):
        access.close_connections(lab)
        ran = _each(lambda spec: host.stop(host.Host(lab, spec.name)), _strangers(lab, set()))
    return sorted(name for name, was in ran.items() if was)


def kill(lab: Lab, names: Iterable[str]) -> list[str]:
    """Have hosts of a lab die at once, as in a power cut, and return which ran; their files stay.

    Raises:
        LabError: The lab has no such host.
    """
    with lab_lock(lab):
        known = {one.name: one for one in present_hosts(lab)}
        unknown = sorted(set(names) - known.keys())
        if unknown:
            raise LabError(f"no host {unknown[0]!r} in lab {lab.name}: there are {', '.join(sorted(known))}")
        ran = [name for name in sorted(set(names)) if host.process(known[name]) is not None]
        for name in sorted(set(names)):
            host.clear(known[name])
    return ran


def harvest(lab: Lab) -> dict[str, int]:
    """Keep the packages that the hosts of a lab downloaded; return how many are new, by suite."""
    hosts = present_hosts(lab)
    suites = {made_from["suite"] for one in hosts if (made_from := one.made_from())}
    return {
        suite: archives.harvest(suite, [one.upper for one in hosts if one.made_from().get("suite") == suite], lab.base)
        for suite in sorted(suites)
    }


def destroy(lab: Lab) -> list[str]:
    """End the hosts of a lab and delete their files, but keep the packages they downloaded.

    Returns:
        Names of the hosts that there were.
    """
    with lab_lock(lab):
        access.close_connections(lab)
        hosts = present_hosts(lab)
        _each(lambda spec: host.clear(host.Host(lab, spec.name)), _strangers(lab, set()))
        harvest(lab)
        _each(lambda spec: host.remove(host.Host(lab, spec.name)), _strangers(lab, set()))
        shutil.rmtree(lab.state, ignore_errors=True)
        used = layers_in_use(lab.base)
        archives.prune(used, base=lab.base)
        image.prune(used, base=lab.base)
        access.forget(lab)
    return [one.name for one in hosts]


def orphans(registry: Registry) -> list[Lab]:
    """Labs whose directory is gone, so that nobody can destroy them any more."""
    return [lab for lab in registry.labs() if not lab.directory.is_dir()]
