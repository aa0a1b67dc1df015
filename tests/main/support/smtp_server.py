#!/usr/bin/env python3
"""A mail server for tests: real SMTP with TLS and AUTH, faults on demand, and the mailbox as JSON.

    smtp_server.py CERT.pem KEY.pem

Once ready, it prints one line of JSON with its ports on 127.0.0.1, all chosen by the system:
    starttls  STARTTLS and AUTH (user `u`, password `p`) are required
    tls       TLS from the first byte, AUTH is required
    plain     neither
    control   HTTP:
        GET /mail       the mails taken: time, mail_from, rcpt, tls, auth, port, data, and what a mail program makes
                        of them: subject, text, html
        DELETE /mail    forgets mails, faults and counters
        GET /sessions   SMTP sessions: open, most_open (at once), opened (in all)
        POST /fault     {"at": "CONNECT|AUTH|MAIL|RCPT|BODY|DATA|TAKEN", "reply": "451 4.3.0 later", "count": 1,
                        "delay": 0, "drop": false, "address": "only@this.test"}; a fault without reply and drop only
                        delays. BODY: the mail was asked for; the session breaks, whatever the fault says. DATA: the
                        mail has come. TAKEN: it is in the mailbox, its sender does not know yet
        GET /fault      the faults that did not strike yet
        POST /end       ends all open SMTP sessions
        POST /password  {"password": "..."}: what AUTH takes from now on

The recipients hard@... and tmp@... are always refused, for good (550) and for now (451).

It ends when its standard input is closed, so that it never outlives a test that was killed, and after 15 minutes.
"""
import asyncio
import email
import email.policy
import json
import logging
import os
import ssl
import sys
import time
import warnings

from aiosmtpd.smtp import SMTP, AuthResult

LIFETIME_SECONDS = 15 * 60
MAX_BODY_BYTES = 64 * 1024


class World:
    """What all sessions share."""

    def __init__(self):
        self.password = "p"
        self.forget()
        self.sessions = set()

    def forget(self):
        self.mails = []
        self.faults = []
        self.most_open = 0
        self.opened = 0

    def session_began(self, session):
        self.sessions.add(session)
        self.opened += 1
        self.most_open = max(self.most_open, len(self.sessions))

    def end_sessions(self):
        for session in list(self.sessions):
            session.transport.close()

    def take_fault(self, at, address=None):
        for fault in self.faults:
            if fault["at"] == at and fault.get("address") in (None, address):
                fault["count"] = fault.get("count", 1) - 1
                if fault["count"] <= 0:
                    self.faults.remove(fault)
                return fault
        return None


WORLD = World()


class Session(SMTP):
    """One SMTP session. It counts itself, and may be refused at the door."""

    def connection_made(self, transport):
        # STARTTLS makes the same session once more.
        if self not in WORLD.sessions:
            WORLD.session_began(self)
        super().connection_made(transport)

    def connection_lost(self, error):
        WORLD.sessions.discard(self)
        super().connection_lost(error)

    async def _handle_client(self):
        if not await self.is_refused("CONNECT"):
            await super()._handle_client()

    async def is_refused(self, at):
        fault = WORLD.take_fault(at)
        if fault is None:
            return False
        await asyncio.sleep(fault.get("delay", 0))
        if fault.get("drop"):
            self.transport.abort()
            return True
        if fault.get("reply"):
            await self.push(fault["reply"])
            if at == "CONNECT":
                self.transport.close()
            return True
        return False

    async def smtp_AUTH(self, arg):
        if not await self.is_refused("AUTH"):
            await super().smtp_AUTH(arg)

    async def smtp_DATA(self, arg):
        fault = WORLD.take_fault("BODY")
        if fault is None:
            await super().smtp_DATA(arg)
            return
        await self.push("354 go on")
        await asyncio.sleep(fault.get("delay", 0))
        self.transport.abort()


class Handler:
    """Takes mail. Every step may be made to fail."""

    async def fault(self, at, server, address=None):
        fault = WORLD.take_fault(at, address)
        if fault is None:
            return None
        await asyncio.sleep(fault.get("delay", 0))
        if fault.get("drop"):
            server.transport.abort()
            return "421 4.3.0 gone"
        return fault.get("reply")

    async def handle_MAIL(self, server, session, envelope, address, options):
        refusal = await self.fault("MAIL", server, address)
        if refusal:
            return refusal
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        refusal = await self.fault("RCPT", server, address)
        if refusal:
            return refusal
        if address.startswith("hard@"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("tmp@"):
            return "451 4.3.0 try again later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        refusal = await self.fault("DATA", server)
        if refusal:
            return refusal
        WORLD.mails.append({
            "time": time.time(),
            "mail_from": envelope.mail_from,
            "rcpt": envelope.rcpt_tos,
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "auth": bool(session.authenticated),
            "port": server.transport.get_extra_info("sockname")[1],
            "data": envelope.content,
        })
        answer = f"250 2.0.0 queued as {len(WORLD.mails)}"
        return await self.fault("TAKEN", server) or answer


def authenticate(server, session, envelope, mechanism, data):
    is_right = data.login == b"u" and data.password == WORLD.password.encode()
    return AuthResult(success=is_right, handled=False)


async def control(reader, writer):
    """One HTTP request, one answer."""
    try:
        method, path, _ = (await reader.readline()).decode().split()
        length = 0
        while line := (await reader.readline()).decode().strip():
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                length = min(int(value), MAX_BODY_BYTES)
        body = json.loads(await reader.readexactly(length)) if length else None
        status, answer = answer_to(method, path, body)
        text = json.dumps(answer).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + text)
        await writer.drain()
    finally:
        writer.close()


def read_as_mail_programs_do(mail):
    """Decodes a mail, once; not when it is taken, so that taking is fast."""
    data = mail["data"]
    if isinstance(data, bytes):
        message = email.message_from_bytes(data, policy=email.policy.default)
        mail["data"] = data.decode("utf-8", "replace")
        mail["subject"] = str(message["subject"])
        for name, kind in ("text", "plain"), ("html", "html"):
            part = message.get_body(preferencelist=(kind,))
            mail[name] = part.get_content().replace("\r\n", "\n") if part else None
    return mail


def answer_to(method, path, body):
    match method, path:
        case "GET", "/mail":
            return "200 OK", [read_as_mail_programs_do(mail) for mail in WORLD.mails]
        case "DELETE", "/mail":
            WORLD.forget()
            return "200 OK", {}
        case "GET", "/sessions":
            return "200 OK", {"open": len(WORLD.sessions), "most_open": WORLD.most_open, "opened": WORLD.opened}
        case "GET", "/fault":
            return "200 OK", WORLD.faults
        case "POST", "/fault":
            WORLD.faults.append(body)
            return "200 OK", {}
        case "POST", "/end":
            WORLD.end_sessions()
            return "200 OK", {}
        case "POST", "/password":
            WORLD.password = body["password"]
            return "200 OK", {}
    return "404 Not Found", {}


async def until_parent_is_gone():
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()

    def on_input():
        if not os.read(sys.stdin.fileno(), 4096):
            gone.set()

    loop.add_reader(sys.stdin.fileno(), on_input)
    await gone.wait()


async def main(certificate, key):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()

    async def listen(ssl_context=None, **options):
        def session():
            return Session(Handler(), hostname="mx.test", authenticator=authenticate, enable_SMTPUTF8=True, **options)

        server = await loop.create_server(session, "127.0.0.1", 0, ssl=ssl_context, backlog=1024)
        return server, server.sockets[0].getsockname()[1]

    # The servers are kept: what nobody refers to may be collected.
    kept, ports = [], {}
    for name, options in {
        "starttls": {"tls_context": tls, "require_starttls": True, "auth_required": True, "auth_require_tls": True},
        "tls": {"ssl_context": tls, "auth_required": True, "auth_require_tls": False},
        "plain": {},
    }.items():
        server, ports[name] = await listen(**options)
        kept.append(server)
    http = await asyncio.start_server(control, "127.0.0.1", 0)
    ports["control"] = http.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    try:
        await asyncio.wait_for(until_parent_is_gone(), LIFETIME_SECONDS)
    except asyncio.TimeoutError:
        pass


if __name__ == "__main__":
    # Broken sessions are what it is for: nothing to tell.
    logging.disable()
    warnings.simplefilter("ignore")
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2]))
    finally:
        # Open sessions must not keep it alive.
        os._exit(0)
