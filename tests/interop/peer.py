#!/usr/bin/env python3
"""An MSRP peer that is not Restante: Kamailio's MSRP relay on the connection with Restante, this program behind it.

    peer.py DIRECTORY active|passive [SECONDS]      DIRECTORY as given to install.sh; ends by itself after SECONDS (60)

    Restante  <-- the connection under test -->  Kamailio  <-- AUTH (RFC 4976), then the session -->  this program

Whatever Restante exchanges is read, checked, answered and written by Kamailio (relay.cfg). This program fills messages in and
takes them out at the far end. JSON lines come in and go out, as README.md has them.
"""
import ctypes
import hashlib
import json
import os
import queue
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time

# A frame of more than 11238 bytes in all gets no further in Kamailio; RCS clients send chunks of this size too.
CHUNK_BYTES = 10240
# Chunks not answered by Restante. Counted here, since the relay's own answers come at once.
WINDOW = 16
# Stands for the first, empty SEND among the messages.
BINDING = {"message_id": None}


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def start_relay(home):
    """Kamailio on a free port: the process and the port. It cannot pick a port itself, and somebody may take the one found."""
    libc = ctypes.CDLL(None)
    configuration = os.path.join(os.path.dirname(os.path.abspath(__file__)), "relay.cfg")
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        relay = subprocess.Popen(
            [f"{home}/kamailio", "-DD", "-E", "-m", "128", "-M", "16", "-f", configuration, "-Y", home,
             "-L", f"{home}/lib/modules", "-l", f"tcp:127.0.0.1:{port}"],
            env={"LD_LIBRARY_PATH": f"{home}/lib"},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            # PR_SET_PDEATHSIG: a test that kills this program must not leave the relay behind.
            preexec_fn=lambda: libc.prctl(1, signal.SIGTERM))
        # On a busy machine it takes its time; without its port it ends at once.
        for _ in range(1000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0 and relay.poll() is None:
                    return relay, port
            if relay.poll() is not None:
                break
            time.sleep(0.02)
        relay.kill()
    raise SystemExit("Kamailio does not start")


class FarEnd:
    """The session's far end, and what the relay's log tells of Restante."""

    def __init__(self, port, role, inbox):
        self.role, self.inbox = role, inbox
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.own_port = self.socket.getsockname()[1]
        self.uri = f"msrp://127.0.0.1:{self.own_port}/{secrets.token_hex(8)};tcp"
        self.remote, self.is_bound = None, False
        self.orders, self.current, self.unanswered, self.incoming = [], None, {}, {}
        threading.Thread(target=self.read, daemon=True).start()
        # The answer has the URI under which the relay finds this connection.
        self.write("AUTH", f"msrp://127.0.0.1:{port};tcp")

    def read(self):
        buffer = bytearray()
        while data := self.socket.recv(1 << 18):
            buffer += data
            while match := re.match(rb"MSRP (\S+) ", buffer):
                end = re.search(rb"\r\n-------" + re.escape(match[1]) + rb"([$#+])\r\n", buffer)
                if not end:
                    break
                self.inbox.put((self.frame, (bytes(buffer[:end.start()]), end[1].decode())))
                del buffer[:end.end()]
        self.inbox.put(None)

    def write(self, kind, to_path, headers=(), content=None, flag="$", transaction=None):
        transaction = transaction or secrets.token_hex(8)
        head = "\r\n".join([f"MSRP {transaction} {kind}", f"To-Path: {to_path}", f"From-Path: {self.uri}", *headers])
        body = b"" if content is None else b"\r\n\r\n" + content
        self.socket.sendall(head.encode() + body + f"\r\n-------{transaction}{flag}\r\n".encode())
        return transaction

    def bound(self):
        if not self.is_bound:
            self.is_bound = True
            say("bound")

    def frame(self, raw, flag):
        """A frame that the relay passed on or sent itself."""
        head, _, content = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        header = dict(line.split(": ", 1) for line in lines)
        _, transaction, kind = first.split(" ", 2)
        if "Use-Path" in header:
            self.use_path = header["Use-Path"]
            say("ready", path=f"{self.use_path} {self.uri}", setup=self.role)
        elif kind == "SEND":
            self.write("200 OK", header["From-Path"].split()[0], transaction=transaction)
            self.bound()
            if "Content-Type" in header:
                self.chunk(header, content, flag)
        elif kind == "REPORT":
            say("report", message_id=header["Message-ID"], status=header["Status"], byte_range=header.get("Byte-Range"))
        elif not kind.startswith("200"):
            say("error", text=f"the relay answered {kind}")

    def chunk(self, header, content, flag):
        """A chunk of Restante's. On one connection they come in order; anything else is told as an abort."""
        message_id = header["Message-ID"]
        size, digest = self.incoming.pop(message_id, (0, hashlib.sha256()))
        if flag == "#" or not header["Byte-Range"].startswith(f"{size + 1}-"):
            return say("aborted", message_id=message_id, byte_range=header["Byte-Range"], flag=flag)
        size += len(content)
        digest.update(content)
        if flag == "+":
            return self.incoming.update({message_id: (size, digest)})
        say("message", message_id=message_id, size=size, sha256=digest.hexdigest(), content_type=header["Content-Type"])
        if header.get("Success-Report") == "yes":
            report = [f"Message-ID: {message_id}", f"Byte-Range: 1-{size}/{size}", "Status: 000 200 OK"]
            self.write("REPORT", header["From-Path"], report)

    def order(self, line):
        order = json.loads(line)
        if "send" in order:
            return self.orders.append(order["send"])
        self.remote = f"{self.use_path} {order['remote_path']}"
        if self.role == "active":
            # RFC 4975 section 5.4: the first request says which session the connection is for.
            self.unanswered[self.write("SEND", self.remote, ["Message-ID: binding", "Byte-Range: 1-0/0"])] = BINDING

    def send_some(self):
        """Sends what the window allows."""
        while self.is_bound and len(self.unanswered) < WINDOW and (self.current or self.orders):
            if not self.current:
                self.current = {"message_id": secrets.token_hex(8), "success_report": True, **self.orders.pop(0), "at": 0}
                self.current["content"] = open(self.current["file"], "rb")
            message, total = self.current, os.path.getsize(self.current["file"])
            content = message["content"].read(CHUNK_BYTES)
            start, message["at"] = message["at"] + 1, message["at"] + len(content)
            headers = [f"Message-ID: {message['message_id']}", f"Byte-Range: {start}-{message['at']}/{total}",
                       f"Success-Report: {'yes' if message['success_report'] else 'no'}", f"Content-Type: {message['content_type']}"]
            is_last = message["at"] == total
            self.unanswered[self.write("SEND", self.remote, headers, content, "$" if is_last else "+")] = message
            if is_last:
                self.current = None
                say("sent", message_id=message["message_id"], size=total)

    def log(self, line):
        """A line of the relay's log, see relay.cfg."""
        if found := re.search(rb"PEER reply (\S+) (\d+)$", line.strip()):
            self.answered(self.unanswered.pop(found[1].decode(), {"message_id": None}), int(found[2]))
        elif found := re.search(rb"PEER closed (\d+)$", line.strip()):
            if self.is_bound and int(found[1]) != self.own_port:
                say("closed")
        elif re.search(b"PEER|ERROR|CRITICAL", line):
            say("error", text=line.decode(errors="replace").strip())

    def answered(self, message, code):
        """Restante answered a frame, as the relay read it. Told once for a message: the first refusal, or 200 to all of it."""
        if message is BINDING and code == 200:
            return self.bound()
        is_done = message is not self.current and message not in self.unanswered.values()
        if (code != 200 or is_done) and not message.get("told"):
            message["told"] = True
            say("response", message_id=message["message_id"], code=code)
        if code != 200 and message is self.current:
            # RFC 4975 section 7.1.1: the rest of a refused message is not sent.
            self.current = None


def main():
    directory, role, seconds = (sys.argv[1:] + ["60"])[:3]
    deadline, inbox = time.monotonic() + float(seconds), queue.Queue()

    def feed(handle, lines):
        for line in lines:
            inbox.put((handle, (line,)))
        inbox.put(None)

    relay, port = start_relay(os.path.abspath(directory) + "/relay")
    try:
        far_end = FarEnd(port, role, inbox)
        for source in (far_end.log, relay.stderr), (far_end.order, sys.stdin):
            threading.Thread(target=feed, args=source, daemon=True).start()
        while task := inbox.get(timeout=max(0, deadline - time.monotonic())):
            handle, values = task
            handle(*values)
            far_end.send_some()
    except queue.Empty:
        say("error", text="the time is up")
    finally:
        relay.terminate()
        relay.wait()


if __name__ == "__main__":
    main()
