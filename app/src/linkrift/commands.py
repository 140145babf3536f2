"""The command line that all services share: serve, version, check-config."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import uvloop

from linkrift import logs
from linkrift.board import Board
from linkrift.environment import ConfigurationError
from linkrift.extensions import missing_extensions
from linkrift.lifecycle import Process, Service, listening_socket, run
from linkrift.metrics_directory import metrics_directory
from linkrift.release import Release, read_release
from linkrift.settings import ProcessSettings
from linkrift.supervisor import EX_CONFIG, Supervisor
from linkrift.systemd import Notifier

Settings = TypeVar("Settings")


class Program(Generic[Settings]):
    """A service's command line."""

    def __init__(
        self,
        name: str,
        read_settings: Callable[[], Settings],
        process_settings: Callable[[Settings], ProcessSettings],
        load: Callable[[], Callable[[Settings, Release, Process], Service]],
    ) -> None:
        """Describe the service.

        Args:
            name: `api`, `redirect` or `worker`.
            read_settings: reads its settings from the environment; raises ConfigurationError.
            process_settings: the part of them that says how its processes run.
            load: imports the service and returns what makes it in one of its processes. Called in the parent, so that
                the processes share the modules' memory, and not before the metrics directory is set.
        """
        self._name = name
        self._read_settings = read_settings
        self._process_settings = process_settings
        self._load = load
        self._extra: dict[str, tuple[str, Callable[[], int]]] = {}

    def add_command(self, name: str, description: str, command: Callable[[], int]) -> None:
        """Add a subcommand of this service only; it returns the exit code and may raise ConfigurationError."""
        self._extra[name] = (description, command)

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run the command line and return the exit code."""
        commands = {
            "serve": ("run the service (the default)", self.serve),
            "version": ("print version, commit, branch and commit time", self.version),
            "check-config": ("check the settings in the environment and say what is wrong with them", self.check),
            **self._extra,
        }
        parser = argparse.ArgumentParser(prog=f"linkrift-{self._name}", description=f"The {self._name} service.")
        parsers = parser.add_subparsers(dest="command", metavar="command")
        for name, (description, _) in commands.items():
            parsers.add_parser(name, help=description, description=description)
        command = parser.parse_args(arguments).command or "serve"
        try:
            return commands[command][1]()
        except ConfigurationError as error:
            for finding in error.findings:
                print(finding, file=sys.stderr)
            return EX_CONFIG

    def version(self) -> int:
        """Print which release this is."""
        release = read_release()
        print(f"version: {release.id}")
        print(f"commit: {release.commit or 'unknown'}")
        print(f"branch: {release.branch or 'unknown'}")
        print(f"commit time: {release.commit_time or 'unknown'}")
        return 0

    def check(self) -> int:
        """Check the settings."""
        self._read_settings()
        print("the settings are complete and well-formed")
        return 0

    def serve(self) -> int:
        """Run the service until it is stopped."""
        settings = self._read_settings()
        if missing := missing_extensions():
            print(
                f"{', '.join(missing)}: the compiled part is missing or switched off; install the wheel for this "
                "machine, and set no variable that ends in _NO_EXTENSIONS",
                file=sys.stderr,
            )
            return EX_CONFIG
        process_settings = self._process_settings(settings)
        release = read_release()
        fields = {"service": self._name, "slot": process_settings.slot, "version": release.id}
        logs.configure(process_settings.log_level, process_settings.log_format, fields)
        try:
            # Without SO_REUSEPORT: the processes share the port among themselves, never with another slot.
            listening_socket(process_settings.host, process_settings.port, shared=False).close()
        except OSError as error:
            print(f"cannot listen on {process_settings.host}:{process_settings.port}: {error}", file=sys.stderr)
            return 1
        with metrics_directory(process_settings.runtime_directory, process_settings.processes):
            return self._supervise(settings, process_settings, release)

    def _supervise(self, settings: Settings, process_settings: ProcessSettings, release: Release) -> int:
        create = self._load()
        # After the metrics directory is set: it looks at that while it is imported.
        from linkrift import metrics

        board = Board(process_settings.processes)

        def child(index: int, report_ready: Callable[[], None], lifeline: int) -> None:
            process = Process(index, board, report_ready, lifeline)
            uvloop.run(run(lambda process: create(settings, release, process), process_settings, process))

        def on_death(index: int, pid: int) -> None:
            board.write(index, 0)
            metrics.forget_process(pid)

        return Supervisor(
            process_settings.processes,
            child,
            Notifier.from_environment(),
            shutdown_timeout=process_settings.shutdown_timeout,
            on_death=on_death,
        ).run()
