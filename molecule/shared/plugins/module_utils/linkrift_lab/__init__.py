"""Build, boot and remove lab hosts: Debian systems in systemd-nspawn, on a network of their own.

The modules beside this package are thin; what they do is here, as functions that tests call without Ansible.
"""

from __future__ import annotations
