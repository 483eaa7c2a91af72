#!/usr/bin/env python3
"""Writes a snapshot folder in Felix's shape: policies of five rules over sixty sets, two of them of 100,000 members.

usage: policies.py POLICIES FOLDER
"""
import os
import random
import sys

SETS, LARGE, MEMBERS = 60, 2, 100_000


def member(rng):
    length = rng.randint(16, 32)
    address = rng.getrandbits(32) >> (32 - length) << (32 - length)
    return ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0)) + f"/{length}"


def sets(rng):
    for number in range(SETS):
        name = f"cali40s:set{number:03d}"
        yield f"create {name} hash:net family inet hashsize 65536 maxelem 1048576"
        for _ in range(MEMBERS if number < LARGE else rng.randint(1, 200)):
            yield f"add {name} {member(rng)}"


def rules(rng, policies):
    yield from ("*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]")
    chains = ["cali-INPUT", "cali-fh-ens5"] + [f"cali-pi-{policy}" for policy in range(policies)]
    yield from (f":{chain} - [0:0]" for chain in chains)
    yield "-A INPUT -j cali-INPUT"
    yield "-A cali-INPUT -j MARK --set-xmark 0x0/0xf0000"
    yield "-A cali-INPUT -j cali-fh-ens5"
    yield "-A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT"
    yield "-A cali-INPUT -j DROP"
    yield "-A cali-fh-ens5 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    yield "-A cali-fh-ens5 -m conntrack --ctstate INVALID -j DROP"
    for policy in range(policies):
        yield f"-A cali-fh-ens5 -m mark --mark 0x0/0x20000 -j cali-pi-{policy}"
        yield "-A cali-fh-ens5 -m mark --mark 0x10000/0x10000 -j RETURN"
    for policy in range(policies):
        for number in range(5):
            port = rng.choice([22, 22, 80, 443, rng.randint(1, 65535)])
            match = f"-p {rng.choice(['tcp', 'udp'])} -m set --match-set cali40s:set{rng.randrange(SETS):03d} src"
            match = f"-A cali-pi-{policy} {match} -m multiport --dports {port}"
            if number == 4:
                yield f"{match} -j DROP"
                continue
            yield f"{match} -j MARK --set-xmark 0x10000/0x10000"
            yield f"-A cali-pi-{policy} -m mark --mark 0x10000/0x10000 -j RETURN"
    yield "COMMIT"


def main():
    policies, folder = int(sys.argv[1]), sys.argv[2]
    rng = random.Random(1)
    os.makedirs(folder, exist_ok=True)
    for name, lines in (("ipset-save.txt", sets(rng)), ("iptables-legacy-save.txt", rules(rng, policies))):
        with open(os.path.join(folder, name), "w", encoding="ascii") as out:
            out.writelines(line + "\n" for line in lines)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main()
