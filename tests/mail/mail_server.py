"""A mail server made of aiosmtpd: with STARTTLS or TLS from the beginning, and a login. It writes every message to a
file of its own, and refuses recipients named never@ for good, and those named later@ the first two times."""

import asyncio
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

folder, certificate, key, mode = sys.argv[1:5]
later = 0
count = 0
connections = 0


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        global later
        if address.startswith("never@"):
            return "550 5.1.1 nobody of that name"
        if address.startswith("later@"):
            later += 1
            if later <= 2:
                return "450 4.2.1 not now"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server, session, envelope):
        global count
        count += 1
        head = f"X-Connection: {session.number}\r\nX-From: {envelope.mail_from}\r\nX-To: {','.join(envelope.rcpt_tos)}\r\n"
        path = os.path.join(folder, f"{count:04}.eml")
        with open(path + ".new", "wb") as file:
            file.write(head.encode() + envelope.original_content)
        os.rename(path + ".new", path)
        return "250 ok"


class Server(SMTP):
    def _create_session(self):
        global connections
        session = super()._create_session()
        connections += 1
        session.number = connections
        return session


def authenticate(server, session, envelope, mechanism, data):
    right = data.login == b"alerts" and data.password == b"se cret"
    return AuthResult(success=right, handled=False)


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    secured = {} if mode == "none" else {"authenticator": authenticate, "auth_required": True}
    if mode == "starttls":
        secured |= {"tls_context": context, "require_starttls": True}
    if mode == "implicit":
        secured["auth_require_tls"] = False
    loop = asyncio.get_running_loop()
    make = lambda: Server(Handler(), hostname="mail.test", loop=loop, **secured)
    server = await loop.create_server(make, "127.0.0.1", 0, ssl=context if mode == "implicit" else None)
    port = server.sockets[0].getsockname()[1]
    with open(os.path.join(folder, "port.new"), "w") as file:
        file.write(str(port))
    os.rename(os.path.join(folder, "port.new"), os.path.join(folder, "port"))
    await server.serve_forever()


asyncio.run(main())
