"""A client of PJSUA2 that registers, says what comes, and answers it: pjsua.py HOST:PORT USER PASSWORD OWN-HOST."""

import sys

import pjsua2

server, user, password, own_host = sys.argv[1:5]


class Account(pjsua2.Account):
    def onRegState(self, parameters):
        print("registered:", parameters.code, flush=True)

    def onInstantMessage(self, message):
        print(f"message from {message.fromUri}: {message.contentType}: {message.msgBody!r}", flush=True)
        if message.contentType.startswith("text/plain"):
            answer = pjsua2.SendInstantMessageParam()
            answer.content = f"answer to {message.msgBody}"
            buddy = pjsua2.Buddy()
            settings = pjsua2.BuddyConfig()
            settings.uri = message.fromUri
            buddy.create(self, settings)
            buddy.sendInstantMessage(answer)
            buddies.append(buddy)

    def onInstantMessageStatus(self, status):
        print("answered:", status.code, flush=True)


buddies = []
endpoint = pjsua2.Endpoint()
endpoint.libCreate()
settings = pjsua2.EpConfig()
settings.logConfig.level = 0
settings.logConfig.consoleLevel = 0
settings.uaConfig.threadCnt = 0
settings.uaConfig.mainThreadOnly = True
endpoint.libInit(settings)
transport = pjsua2.TransportConfig()
transport.boundAddress = own_host
endpoint.transportCreate(pjsua2.PJSIP_TRANSPORT_UDP, transport)
endpoint.libStart()
settings = pjsua2.AccountConfig()
settings.idUri = f"sip:{user}@example.org"
settings.regConfig.registrarUri = "sip:example.org"
settings.sipConfig.proxies.append(f"sip:{server};lr")
settings.sipConfig.authCreds.append(pjsua2.AuthCredInfo("digest", "*", user, 0, password))
account = Account()
account.create(settings)
while True:
    endpoint.libHandleEvents(100)
