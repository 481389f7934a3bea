# SPDX-License-Identifier: Apache-2.0
"""A whole Swift on one host, and the daemon that keeps its listings true: what `lustack serve` starts.

`topology` says what runs where and `pipeline` what a request passes (both pure), `render` makes the
configuration files (pure), `statedir` keeps them and everything else that must outlive a stop, `supervise`
runs the processes, `readiness` asks whether they answer, and `instance` joins all that:

    host = topology.Host(directory="/data", state="/data.state", port=0)
    with instance.running(host) as served:
        print(served.access.auth_url)

`launch` and `rings` are programs of their own: only they import Swift.
"""
