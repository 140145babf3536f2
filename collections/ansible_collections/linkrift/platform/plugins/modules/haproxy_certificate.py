#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Give HAProxy a certificate without ending a connection."""

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_certificate
short_description: Give HAProxy a certificate without ending a connection
version_added: 0.2.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Looks at a certificate, brings it into the running HAProxy through its admin socket, replaces the file that the
    configuration names, and asks HAProxy which certificate it shows now. Nothing is reloaded. HAProxy is reloaded
    only where it does not take the certificate this way.
  - The key must be the certificate's, the chain in order, the certificate valid now and for all of the names. HAProxy
    looks at it first. A certificate that is refused changes nothing.
  - Whatever state an earlier run left, the same call goes on from there. A file that is right beside a HAProxy that
    still has the certificate of before is a change, too.
options:
  path:
    description:
      - The file with certificate, chain and key, mode 0600. Its directory is for such files only. It is made when it is
        missing, and nobody else may look into it (0700).
    type: path
    required: true
  certificate:
    description:
      - The certificate with its chain, as PEM content. This, O(certificate_path) or O(placeholder) is needed.
    type: str
  private_key:
    description: The certificate's key, as PEM content.
    type: str
  certificate_path:
    description: File on the host with the certificate and its chain, instead of O(certificate).
    type: path
  private_key_path:
    description: File on the host with the key, instead of O(private_key).
    type: path
  placeholder:
    description:
      - Keep the certificate that is in the file. If there is none, make one that signed itself, so that HAProxy can
        start and an ACME client can get a real one through it.
    type: bool
    default: false
  names:
    description: Host names that the certificate must be for, itself or by a wildcard.
    type: list
    elements: str
    default: []
  warn_days:
    description: Warn when fewer days are left.
    type: int
    default: 21
  admin_socket:
    description: Socket for commands to the worker.
    type: path
    default: /run/haproxy/admin.sock
  executable:
    description: The haproxy program.
    type: path
    default: /usr/sbin/haproxy
  unit:
    description: Unit that is reloaded when HAProxy does not take the certificate otherwise.
    type: str
    default: haproxy.service
  lock_path:
    description: Lock that is held meanwhile; the one of M(linkrift.platform.rotation), which may reload, too.
    type: path
    default: /run/linkrift-rotation.lock
  lock_timeout:
    description: Seconds to wait for another run.
    type: float
    default: 120
attributes:
  check_mode:
    description: Looks at everything that can be seen without changing anything.
    support: full
  diff_mode:
    description: Shows subject, names, issuer, serial number and expiry before and after, never a key.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
seealso:
  - module: linkrift.platform.certificate_info
"""

EXAMPLES = r"""
- name: Renew the public certificate
  linkrift.platform.haproxy_certificate:
    path: /etc/haproxy/certs/linkrift.pem
    certificate: "{{ lookup('ansible.builtin.file', 'public.pem') }}"
    private_key: "{{ lookup('ansible.builtin.file', 'public.key') }}"
    names: [go.example.com, api.example.com]
  no_log: true

- name: Bring in what an ACME client has got
  linkrift.platform.haproxy_certificate:
    path: /etc/haproxy/certs/linkrift.pem
    certificate_path: /etc/letsencrypt/live/linkrift/fullchain.pem
    private_key_path: /etc/letsencrypt/live/linkrift/privkey.pem
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /etc/haproxy/certs/linkrift.pem
running:
  description: HAProxy answers.
  returned: success
  type: bool
  sample: true
how:
  description: V(runtime), V(reload), or empty where HAProxy had it or has not loaded this file yet.
  returned: success
  type: str
  sample: runtime
said:
  description: Why the way without a reload did not work, if it did not.
  returned: success
  type: str
  sample: ""
placeholder:
  description: The certificate is one that only stands in for a real one.
  returned: success
  type: bool
  sample: false
certificate:
  description:
    - Its C(subject), C(issuer), C(serial), C(names), C(not_before), C(not_after), C(days_left), C(fingerprint) (SHA-1).
  returned: success
  type: dict
  sample: {subject: CN=go.example.com, days_left: 83}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._certificates import (
    Certificate,
    CertificateError,
    iso,
    now_utc,
)
from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import Haproxy, HaproxyError, Socket
from ansible_collections.linkrift.platform.plugins.module_utils._haproxy_certificate import (
    Bundle,
    Deployment,
    check_bundle,
    check_with,
    describe,
    make_placeholder,
    read_bundle,
    reload_with,
)
from ansible_collections.linkrift.platform.plugins.module_utils._paths import exclusive


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "certificate": {"type": "str"},
            "private_key": {"type": "str", "no_log": True},
            "certificate_path": {"type": "path"},
            "private_key_path": {"type": "path"},
            "placeholder": {"type": "bool", "default": False},
            "names": {"type": "list", "elements": "str", "default": []},
            "warn_days": {"type": "int", "default": 21},
            "admin_socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
            "executable": {"type": "path", "default": "/usr/sbin/haproxy"},
            "unit": {"type": "str", "default": "haproxy.service"},
            "lock_path": {"type": "path", "default": "/run/linkrift-rotation.lock"},
            "lock_timeout": {"type": "float", "default": 120},
        },
        required_together=[("certificate", "private_key"), ("certificate_path", "private_key_path")],
        mutually_exclusive=[("certificate", "certificate_path")],
        supports_check_mode=True,
    )
    if not (module.params["certificate"] or module.params["certificate_path"] or module.params["placeholder"]):
        module.fail_json(
            msg="no certificate is given: set certificate and private_key (is the variable empty?), certificate_path"
            " and private_key_path, or placeholder=true until an ACME client has one"
        )
    try:
        result = _run(module)
    except (CertificateError, HaproxyError, OSError) as error:
        module.fail_json(msg=f"{error}. {module.params['path']} and HAProxy stay as they were.")
    module.exit_json(**result)


def _run(module: AnsibleModule) -> dict[str, Any]:
    """Do, or in check mode foresee, what the parameters ask for."""
    params = module.params
    deployment = Deployment(
        path=Path(params["path"]),
        haproxy=Haproxy(Socket(params["admin_socket"]), None),
        check=check_with(params["executable"]),
        reload=reload_with("systemctl", "reload", "--", params["unit"]),
    )
    before = deployment.state().bundle()
    wanted = _wanted(params, before)
    if module.check_mode:
        outcome = deployment.predict(wanted)
    else:
        with exclusive(Path(params["lock_path"]), params["lock_timeout"]):
            outcome = deployment.apply(wanted)
    certificate = wanted.certificate
    days_left = certificate.days_left(now_utc())
    if days_left < params["warn_days"] and not wanted.is_placeholder:
        module.warn(
            f"the certificate for {certificate.subject} expires in {days_left} days, {iso(certificate.not_after)}"
        )
    return {
        "changed": outcome.changed,
        "path": params["path"],
        "running": outcome.running,
        "how": outcome.how,
        "said": outcome.said,
        "placeholder": wanted.is_placeholder,
        "certificate": _facts(certificate, days_left),
        "diff": {
            "before_header": params["path"],
            "after_header": params["path"],
            "before": describe(before),
            "after": describe(wanted),
        },
    }


def _wanted(params: dict[str, Any], present: Bundle | None) -> Bundle:
    """Return the certificate that shall be there."""
    if params["certificate"]:
        wanted = read_bundle(params["certificate"], params["private_key"])
    elif params["certificate_path"]:
        wanted = read_bundle(
            Path(params["certificate_path"]).read_text(encoding="utf-8"),
            Path(params["private_key_path"]).read_text(encoding="utf-8"),
        )
    else:
        return present or make_placeholder(params["names"])
    check_bundle(wanted, params["names"], now_utc())
    return wanted


def _facts(certificate: Certificate, days_left: int) -> dict[str, Any]:
    """Return what is worth knowing of a certificate."""
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serial": certificate.serial,
        "names": list(certificate.names),
        "not_before": iso(certificate.not_before),
        "not_after": iso(certificate.not_after),
        "days_left": days_left,
        "fingerprint": certificate.fingerprint,
    }


if __name__ == "__main__":
    main()
