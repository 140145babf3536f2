"""Asks the API on its own host: `api_calls.py ADDRESS:PORT HOST sign-in | create ... | stats ...`; prints JSON.

`sign-in EMAIL PASSWORD` registers or logs in. `create TOKEN RATE COUNT` makes links at a steady rate, over several
connections; latency is from the moment a request was due. `stats TOKEN CODE TIMES` asks for a link's statistics again
and again. Needs tools/load.py beside it.
"""

import argparse
import http.client
import json
import threading
import time

from tools.load import Result, Schedule

CONNECTIONS = 8


class Api:
    """One connection."""

    def __init__(self, place: str, host: str, token: str | None = None) -> None:
        address, _, port = place.rpartition(":")
        self._connection = http.client.HTTPConnection(address, int(port), timeout=30)
        self._headers = {"Host": host, "Content-Type": "application/json", "User-Agent": "linkrift-bench"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def ask(self, method: str, path: str, document: object = None) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        body = None if document is None else json.dumps(document)
        self._connection.request(method, path, body=body, headers=self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def sign_in(options: argparse.Namespace) -> dict[str, object]:
    """Register the account, or not, and log in."""
    account = {"email": options.email, "password": options.password}
    api = Api(options.place, options.host)
    registered, _ = api.ask("POST", "/api/v1/auth/register", account)
    status, body = api.ask("POST", "/api/v1/auth/login", account)
    if status != 200:
        raise SystemExit(f"registering answered {registered}, logging in {status}: {body.decode(errors='replace')}")
    return {"token": json.loads(body)["access_token"]}


def create(options: argparse.Namespace) -> dict[str, object]:
    """Make links at a rate."""
    schedule = Schedule(options.rate, options.count, time.monotonic() + 600, None)
    results = [Result() for _ in range(CONNECTIONS)]
    threads = [threading.Thread(target=create_share, args=(options, schedule, result)) for result in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Result()
    for result in results:
        total.add(result)
    return total.report(time.monotonic() - schedule.start)


def create_share(options: argparse.Namespace, schedule: Schedule, result: Result) -> None:
    """Make one connection's share of the links."""
    api = Api(options.place, options.host, options.token)
    while (item := schedule.next()) is not None:
        number, due = item
        if due is not None and (wait := due - time.monotonic()) > 0:
            time.sleep(wait)
        status, _ = api.ask("POST", "/api/v1/links", {"url": f"https://www.example.org/created/{number}"})
        result.statuses[status] += 1
        if status == 201:
            result.latencies.append(time.monotonic() - (due or schedule.start))
        else:
            result.failures[f"status {status}"] += 1


def stats(options: argparse.Namespace) -> dict[str, object]:
    """Ask for statistics, one request after the other."""
    api = Api(options.place, options.host, options.token)
    milliseconds, clicks = [], 0
    for _ in range(options.times):
        began = time.monotonic()
        status, body = api.ask("GET", f"/api/v1/links/{options.code}/stats")
        milliseconds.append((time.monotonic() - began) * 1000)
        if status != 200:
            raise SystemExit(f"statistics answered {status}: {body.decode(errors='replace')}")
        clicks = json.loads(body)["clicks"]
    return {"milliseconds": milliseconds, "clicks": clicks}


def parse_arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place")
    parser.add_argument("host")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("sign-in")
    command.set_defaults(run=sign_in)
    command.add_argument("email")
    command.add_argument("password")
    command = commands.add_parser("create")
    command.set_defaults(run=create)
    command.add_argument("token")
    command.add_argument("rate", type=float)
    command.add_argument("count", type=int)
    command = commands.add_parser("stats")
    command.set_defaults(run=stats)
    command.add_argument("token")
    command.add_argument("code")
    command.add_argument("times", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    print(json.dumps(arguments.run(arguments)))
