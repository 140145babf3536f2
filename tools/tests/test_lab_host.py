"""What boots a host, what it is made of, and that nothing of it is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.linkrift_lab import archives, cgroups, host, image, lifecycle, network, run
from ansible.module_utils.linkrift_lab.errors import LabError
from ansible.module_utils.linkrift_lab.plan import HostSpec, Lab
from ansible.module_utils.linkrift_lab.registry import Registry

MOUNTS = """\
proc /proc proc rw 0 0
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
OWN = "9:name=systemd:/\n4:memory:/box/1\n3:cpu,cpuacct:/\n0::/box\n"


@pytest.fixture
def demo(tmp_path: Path) -> host.Host:
    return host.Host(Lab(7, "demo", tmp_path / ".lab", tmp_path / "base"), "data1")


def settings(**changes: str) -> host.Settings:
    values = {"resolv_conf": "nameserver 192.0.2.53\n", "environment": "", "pip_conf": "", "authorized_key": "ssh key"}
    return host.Settings(**{**values, **changes}, mtu=1400)


def test_boots_in_its_own_network_and_under_its_own_name(demo: host.Host) -> None:
    command = host.boot_command(demo)
    assert command[0] == "systemd-nspawn"
    assert {"--boot", "--network-bridge=lr7", "--machine=lr7-data1", "--register=no", "--keep-unit"} <= set(command)
    assert f"--directory={demo.root}" in command


@pytest.mark.parametrize(
    ("suite", "unified", "forced"),
    [("bookworm", False, False), ("trixie", False, True), ("trixie", True, False), ("bookworm", True, False)],
)
def test_debian_13_gets_unified_control_groups_where_the_machine_has_legacy_ones(
    suite: str, unified: bool, forced: bool
) -> None:
    environment = host.boot_environment(suite, unified=unified)
    assert ("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY" in environment) is forced


def test_a_machine_with_systemd_runs_a_host_as_a_unit(demo: host.Host) -> None:
    command = host.unit_command(demo, {"A": "b"})
    assert command[0] == "systemd-run"
    assert "--unit=linkrift-lab-7-data1.service" in command
    assert "--setenv=A=b" in command
    assert command[command.index("--") + 1 :] == host.boot_command(demo)

    assert "--property=RestartForceExitStatus=133" in command[: command.index("--")]


def supervise(tmp_path: Path, script: str) -> subprocess.Popen[bytes]:
    """Start what boots hosts with a shell script in systemd-nspawn's place; `$N` counts its runs."""
    counted = f'N=$(( $(cat "{tmp_path}/runs" 2> /dev/null || echo 0) + 1 )); echo $N > "{tmp_path}/runs"; {script}'
    return subprocess.Popen(host.supervisor_command([tmp_path], ["sh", "-c", counted]))


def runs(tmp_path: Path) -> int:
    file = tmp_path / "runs"
    return int(file.read_text() or 0) if file.exists() else 0


def test_a_host_that_reboots_is_booted_again_in_its_groups(tmp_path: Path) -> None:
    started = supervise(tmp_path, '[ "$N" = 3 ] && exit 0; exit 133')
    assert started.wait(timeout=20) == 0
    assert runs(tmp_path) == 3
    assert (tmp_path / "cgroup.procs").read_text() == f"{started.pid}\n"


@pytest.mark.parametrize(("end", "status"), [("exit 0", 0), ("exit 1", 1), ("kill -KILL $$", 137)])
def test_a_host_that_is_powered_off_or_dies_stays_off(tmp_path: Path, end: str, status: int) -> None:
    assert supervise(tmp_path, end).wait(timeout=20) == status
    assert runs(tmp_path) == 1


def test_stopping_reaches_the_host_and_waits_for_it(tmp_path: Path) -> None:
    down = tmp_path / "down"
    started = supervise(tmp_path, f"trap 'sleep 0.3; touch {down}; exit 0' TERM; while :; do sleep 0.05; done")
    assert run.wait_for(lambda: runs(tmp_path) == 1, seconds=20)
    # Once its trap stands.
    assert run.wait_for(lambda: b"sleep" in children_of(started.pid), seconds=20)
    started.terminate()
    assert started.wait(timeout=20) == 0
    assert down.exists()
    assert runs(tmp_path) == 1


def children_of(pid: int) -> bytes:
    """Return the names of a process's grandchildren."""
    names = b""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        for inner in Path(f"/proc/{child}/task/{child}/children").read_text().split():
            names += Path(f"/proc/{inner}/comm").read_bytes()
    return names


def test_a_host_that_reboots_while_it_is_stopped_stays_off(tmp_path: Path) -> None:
    started = supervise(tmp_path, "trap 'exit 133' TERM; while :; do sleep 0.05; done")
    assert run.wait_for(lambda: b"sleep" in children_of(started.pid), seconds=20)
    started.terminate()
    assert started.wait(timeout=20) == 0
    assert runs(tmp_path) == 1


@pytest.mark.parametrize(("names", "killed"), [(["app1"], ["app1"]), (["app2"], []), (["app9"], None)])
def test_kills_the_hosts_it_is_told_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], killed: list[str] | None
) -> None:
    lab = Lab(7, "demo", tmp_path / ".lab", tmp_path / "base")
    cleared: list[str] = []
    monkeypatch.setattr(lifecycle, "present_hosts", lambda lab: [host.Host(lab, "app1"), host.Host(lab, "app2")])
    monkeypatch.setattr(host, "process", lambda one: 17 if one.name == "app1" else None)
    monkeypatch.setattr(host, "clear", lambda one: cleared.append(one.name))
    if killed is None:
        with pytest.raises(LabError, match=r"'app9'.*app1, app2"):
            lifecycle.kill(lab, names)
        assert cleared == []
    else:
        assert lifecycle.kill(lab, names) == killed
        assert cleared == names


@pytest.mark.parametrize(("kept", "lower"), [("", "/i"), ("/a", "/a:/i")])
def test_mounts_what_a_host_wrote_over_packages_over_the_image(demo: host.Host, kept: str, lower: str) -> None:
    command = host.mount_command(demo, {"image": "/i", "archives": kept})
    assert command[-1] == str(demo.root)
    assert f"lowerdir={lower},upperdir={demo.upper},workdir=" in command[command.index("-o") + 1]


def test_finds_its_own_mounts_innermost_first(demo: host.Host) -> None:
    mounts = f"""\
overlay {demo.root} overlay rw 0 0
x {demo.root}/proc proc rw 0 0
overlay {demo.root}2 overlay rw 0 0
x /run/systemd/nspawn/unix-export/lr7-data1 tmpfs rw 0 0
x /run/systemd/nspawn/unix-export/lr7-data11 tmpfs rw 0 0
"""
    assert host.mounts_of(demo, mounts) == [
        "/run/systemd/nspawn/unix-export/lr7-data1",
        f"{demo.root}/proc",
        str(demo.root),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to the user of the image")
def test_prepares_what_a_host_has_of_its_own(demo: host.Host, tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    (rootfs / "home/ops").mkdir(parents=True)
    (rootfs / "etc/ssh").mkdir(parents=True)
    (rootfs / "etc").chmod(0o711)
    os.chown(rootfs / "home/ops", 1234, 1235)
    (demo.directory / "upper/leftover").mkdir(parents=True)

    spec = HostSpec("data1", "bookworm", 31)
    host.prepare(demo, spec, image=rootfs, archives=None, settings=settings(pip_conf="[global]\n"))

    assert not (demo.upper / "leftover").exists()
    assert (demo.upper / "etc/hostname").read_text() == "data1\n"
    assert "Address=198.18.7.31/24" in (demo.upper / "etc/systemd/network/10-lab.network").read_text()
    assert "MTUBytes=1400" in (demo.upper / "etc/systemd/network/10-lab.network").read_text()
    assert (demo.upper / "etc/pip.conf").exists()
    # A directory of the upper layer hides the image's: its mode must be the same.
    assert (demo.upper / "etc").stat().st_mode & 0o777 == 0o711
    keys = demo.upper / "home/ops/.ssh/authorized_keys"
    assert keys.read_text() == "ssh key\n"
    assert (keys.stat().st_mode & 0o777, keys.stat().st_uid, keys.stat().st_gid) == (0o600, 1234, 1235)
    assert demo.host_key().startswith("ssh-ed25519 ")
    assert demo.made_from() == {"suite": "bookworm", "octet": "31", "image": str(rootfs), "archives": ""}


@pytest.mark.parametrize("content", [None, "", "{"])
def test_a_host_whose_making_was_interrupted_was_not_made(demo: host.Host, content: str | None) -> None:
    demo.directory.mkdir(parents=True)
    if content is not None:
        (demo.directory / "host.json").write_text(content)
    assert demo.made_from() == {}


@pytest.fixture
def no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "runs_systemd", lambda: False)


@pytest.mark.usefixtures("no_systemd")
def test_a_process_id_that_another_process_got_is_not_the_hosts(demo: host.Host) -> None:
    demo.directory.mkdir(parents=True)
    own = os.getpid()
    (demo.directory / "process.json").write_text(f'{{"pid": {own}, "start": "{host.start_time(own)}"}}')
    assert host.process(demo) == own
    (demo.directory / "process.json").write_text(f'{{"pid": {own}, "start": "1"}}')
    assert host.process(demo) is None


def test_a_process_that_ended_has_no_start() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert host.start_time(ended.pid) is None  # a zombie, still
    ended.wait()
    assert host.start_time(ended.pid) is None


def test_last_words_are_the_consoles(demo: host.Host) -> None:
    assert host.last_words(demo) == ""
    demo.directory.mkdir(parents=True)
    (demo.directory / "console.log").write_text("one\n\ntwo\nthree\nfour\r\n\n")
    assert host.last_words(demo) == "two | three | four"


def test_finds_its_control_group_in_every_hierarchy() -> None:
    assert cgroups.hierarchies(MOUNTS, OWN) == [
        Path("/sys/fs/cgroup/systemd"),
        Path("/sys/fs/cgroup/memory/box/1"),
        Path("/sys/fs/cgroup/cpu,cpuacct"),
        Path("/sys/fs/cgroup/unified/box"),
    ]


def test_makes_control_groups_that_take_processes(tmp_path: Path) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        (tmp_path / name).write_text("0-1\n")
    made = cgroups.make([tmp_path], 7, "data1")
    assert made == [tmp_path / "linkrift-lab/7/data1"]
    assert cgroups.make([tmp_path], 7, "data1") == made


def test_removes_control_groups_and_parents_that_hold_nothing_else(tmp_path: Path) -> None:
    one, two = cgroups.make([tmp_path], 7, "one") + cgroups.make([tmp_path], 7, "two")
    (one / "init.scope").mkdir()
    cgroups.remove([one])
    assert not one.exists()
    assert two.exists()
    cgroups.remove([two])
    assert list(tmp_path.iterdir()) == []


def test_says_which_control_group_does_not_go(tmp_path: Path) -> None:
    [group] = cgroups.make([tmp_path], 7, "one")
    (group / "file").touch()
    with pytest.raises(LabError, match="7/one"):
        cgroups.remove([group], seconds=0.1)


def test_kills_what_is_in_a_group(tmp_path: Path) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    listing = tmp_path / "cgroup.procs"
    listing.write_text(f"{sleeper.pid}\n")

    def reap() -> set[int]:
        if sleeper.poll() is None:
            return {sleeper.pid}
        return set()

    assert cgroups.processes([tmp_path]) == {sleeper.pid}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cgroups, "processes", lambda groups: reap())
        cgroups.kill([tmp_path], seconds=10)
    assert sleeper.returncode == -9


def test_rules_replace_the_labs_table_and_no_other() -> None:
    rules = network.ruleset(Lab(7, "demo", Path("/x")))
    assert rules.startswith("table inet linkrift_lab_7\ndelete table inet linkrift_lab_7\n")
    assert "ip saddr 198.18.7.0/24 ip daddr != 198.18.7.0/24 masquerade" in rules
    assert "flush ruleset" not in rules


def test_tells_who_has_the_subnet() -> None:
    lab = Lab(7, "demo", Path("/x"))

    def interface(name: str, local: str, bits: int) -> dict[str, object]:
        return {"ifname": name, "addr_info": [{"family": "inet", "local": local, "prefixlen": bits}]}

    assert network.overlapping(lab, [interface("lr7", "198.18.7.1", 24), interface("eth0", "192.0.2.2", 24)]) is None
    assert network.overlapping(lab, [interface("tun0", "198.18.0.5", 16)]) == "tun0"


RECIPE = image.Recipe("bookworm", ("deb http://mirror.example bookworm main",), 'Acquire::Check-Date "false";\n', ())


def test_a_changed_recipe_is_another_image() -> None:
    changed = [
        image.Recipe("trixie", RECIPE.sources, RECIPE.apt_settings, ()),
        image.Recipe("bookworm", ("deb http://other.example bookworm main",), RECIPE.apt_settings, ()),
        image.Recipe("bookworm", RECIPE.sources, "", ()),
        image.Recipe("bookworm", RECIPE.sources, RECIPE.apt_settings, ("a certificate",)),
        image.Recipe("bookworm", RECIPE.sources, RECIPE.apt_settings, (), ("systemd",)),
    ]
    digests = {recipe.digest for recipe in (RECIPE, *changed)}
    assert len(digests) == 6
    assert image.Recipe("bookworm", RECIPE.sources, RECIPE.apt_settings, ()).digest == RECIPE.digest


def test_builds_with_the_machines_settings() -> None:
    command = image.bootstrap_command(RECIPE, Path("/target"))
    assert command[-3:] == ["bookworm", "/target", "deb http://mirror.example bookworm main"]
    assert '--aptopt=Acquire::Check-Date "false";' in command
    assert "openssh-server" in next(word for word in command if word.startswith("--include="))


def test_uses_the_newest_image_of_the_recipe_unless_it_is_old() -> None:
    day = 86400.0
    old = image.Image("bookworm", Path("/old"), 1 * day, RECIPE.digest)
    new = image.Image("bookworm", Path("/new"), 2 * day, RECIPE.digest)
    other = image.Image("bookworm", Path("/other"), 3 * day, "other")
    assert image.usable(RECIPE, [old, new, other], now=4 * day) == new
    assert image.usable(RECIPE, [old, other], now=9 * day) is None
    assert image.usable(RECIPE, [other], now=4 * day) is None


def put_image(base: Path, name: str, built: float) -> Path:
    rootfs = base / "images" / name / "rootfs"
    rootfs.mkdir(parents=True)
    (rootfs.parent / "image.json").write_text(f'{{"suite": "bookworm", "digest": "d", "built": {built}}}')
    return rootfs


def test_a_build_that_was_killed_is_no_image(tmp_path: Path) -> None:
    put_image(tmp_path, ".bookworm.part", 1)
    (tmp_path / "images/bookworm-d-2/rootfs").mkdir(parents=True)
    assert image.images(tmp_path) == []


def test_what_killed_builds_left_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images/.bookworm.17.part/rootfs/etc").mkdir(parents=True)
    (tmp_path / "images/.trixie.18.part").mkdir()
    monkeypatch.setattr(
        image, "run", lambda command, **more: Path(command[-2]).mkdir() if "mmdebstrap" in command else ""
    )
    monkeypatch.setattr(image, "_furnish", lambda root, recipe: None)
    monkeypatch.setattr(image, "recipe_of_machine", lambda suite: RECIPE)
    built, new = image.ensure("bookworm", base=tmp_path)
    assert new
    assert built.path.is_dir()
    left = sorted(path.name for path in (tmp_path / "images").iterdir() if path.is_dir())
    assert left == [".trixie.18.part", built.path.parent.name]
    assert image.ensure("bookworm", base=tmp_path) == (built, False)


def test_images_that_hosts_use_stay(tmp_path: Path) -> None:
    oldest, used, newest = (put_image(tmp_path, f"bookworm-d-{built}", built) for built in (1, 2, 3))
    assert image.prune([used], base=tmp_path) == [oldest.parent]
    assert used.exists()
    assert newest.exists()


def download(upper: Path, *names: str) -> Path:
    (upper / archives.INSIDE / "partial").mkdir(parents=True, exist_ok=True)
    (upper / archives.INSIDE / "partial/half.deb").write_text("half")
    for name in names:
        (upper / archives.INSIDE / name).write_text(name)
    return upper


def packages(layer: Path | None) -> list[str]:
    assert layer is not None
    return sorted(path.name for path in (layer / archives.INSIDE).iterdir())


def test_packages_of_all_hosts_become_a_layer(tmp_path: Path) -> None:
    uppers = [download(tmp_path / "1", "a.deb", "b.deb"), download(tmp_path / "2", "b.deb", "c.deb")]
    assert archives.harvest("bookworm", uppers, tmp_path) == 3
    assert packages(archives.current("bookworm", tmp_path)) == ["a.deb", "b.deb", "c.deb"]
    assert archives.current("trixie", tmp_path) is None


def test_a_layer_never_changes(tmp_path: Path) -> None:
    archives.harvest("bookworm", [download(tmp_path / "1", "a.deb")], tmp_path)
    first = archives.current("bookworm", tmp_path)
    assert archives.harvest("bookworm", [download(tmp_path / "2", "b.deb")], tmp_path) == 1
    assert packages(first) == ["a.deb"]
    assert packages(archives.current("bookworm", tmp_path)) == ["a.deb", "b.deb"]
    assert archives.harvest("bookworm", [tmp_path / "1"], tmp_path) == 0


def test_layers_that_hosts_use_stay(tmp_path: Path) -> None:
    for count in range(1, 5):
        archives.harvest("bookworm", [download(tmp_path / str(count), f"{count}.deb")], tmp_path)
    layers = archives.layers("bookworm", tmp_path)
    archives.prune([layers[0]], base=tmp_path)
    assert archives.layers("bookworm", tmp_path) == [layers[0], *layers[2:]]


def test_packages_do_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 10)
    upper = download(tmp_path / "1", "old.deb", "new.deb")
    os.utime(upper / archives.INSIDE / "old.deb", (1, 1))
    archives.harvest("bookworm", [upper], tmp_path)
    assert packages(archives.current("bookworm", tmp_path)) == ["new.deb"]


def test_a_lab_whose_directory_is_gone_is_an_orphan(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    (tmp_path / "there").mkdir()
    registry.take("there", tmp_path / "there")
    gone = registry.take("gone", tmp_path / "gone")
    assert lifecycle.orphans(registry) == [gone]


def test_layers_in_use_are_those_of_all_labs(demo: host.Host) -> None:
    demo.directory.mkdir(parents=True)
    (demo.directory / "host.json").write_text('{"image": "/i", "archives": ""}')
    assert lifecycle.layers_in_use(demo.lab.base) == {Path("/i")}


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    def take_again() -> None:
        with run.locked(tmp_path / "lock", seconds=0.1, busy="somebody is at it"):
            raise AssertionError

    with run.locked(tmp_path / "lock", seconds=1, busy=""), pytest.raises(LabError, match="somebody is at it"):
        take_again()
    with run.locked(tmp_path / "lock", seconds=0.1, busy="still"):
        pass


def test_a_program_that_fails_says_its_last_words() -> None:
    with pytest.raises(LabError, match=r"exited 3: two \| three \| four"):
        run.run([sys.executable, "-c", "import sys; print('one\\ntwo\\nthree\\nfour', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(LabError, match="not installed"):
        run.run(["/no/such/program"])
    with pytest.raises(LabError, match="not done"):
        run.run([sys.executable, "-c", "import time; time.sleep(20)"], timeout=0.2)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    run.write_whole(tmp_path / "file", "one", mode=0o640)
    with pytest.raises(UnicodeEncodeError):
        run.write_whole(tmp_path / "file", "\udc80")
    assert (tmp_path / "file").read_text() == "one"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
