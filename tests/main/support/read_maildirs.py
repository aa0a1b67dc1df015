#!/usr/bin/env python3
"""What lies in Maildirs, as JSON, the way a mail program shows it.

    read_maildirs.py BASE

BASE holds one Maildir a mailbox. The mails come in the order in which Postfix took them, whatever the order in which it
put them into the mailboxes: by its queue id, which begins with the time (`enable_long_queue_ids`).
"""
import email
import email.policy
import json
import pathlib
import re
import sys


def mail(path):
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    received = " ".join(str(message["received"]).split())
    protocol, queue_id = re.search(r" with (\S+)(?: \(.*?\))? id (\w+)", received).groups()
    part = {kind: message.get_body(preferencelist=(kind,)) for kind in ("plain", "html")}
    text = {kind: body.get_content().replace("\r\n", "\n") if body else None for kind, body in part.items()}
    return {
        "mailbox": path.parent.parent.name,
        "queue_id": queue_id,
        "protocol": protocol,
        "headers": [[name, str(value)] for name, value in message.items()],
        "subject": str(message["subject"]),
        "text": text["plain"],
        "html": text["html"],
    }


def main(base):
    mails = [mail(path) for path in pathlib.Path(base).glob("*/new/*")]
    print(json.dumps(sorted(mails, key=lambda mail: mail["queue_id"])))


main(sys.argv[1])
