// One original node, driven by JSON lines: commands on stdin, events on stdout. Ends at the end of stdin.
//
//   node original.js '{"listen": true, "bootstrap": ["ws://..."], "socket": false}'
//
// Buffers are base64 here. An exception that nobody caught ends the process with code 1, as it does for its users.
'use strict'

const PeerRelay = require('peer-relay')

const options = JSON.parse(process.argv[2])
const settings = { bootstrap: options.bootstrap }
if (options.listen) settings.port = 0

const socket = options.socket ? new PeerRelay.Socket(settings) : null
const peer = socket ? socket.peer : new PeerRelay(settings)

const id = (hex) => Buffer.from(hex, 'hex')
const tell = (event) => process.stdout.write(JSON.stringify(event) + '\n')
const ready = () => {
  // It listens on IPv4 only, and `localhost` may mean IPv6 first.
  const url = peer.wsConnector.url && peer.wsConnector.url.replace('localhost', '127.0.0.1')
  tell({ event: 'ready', id: peer.id.toString('hex'), url })
}

const commands = {
  send: (it) => 'data' in it ? peer.send(id(it.to), it.data) : peer.send(id(it.to)),
  connect: (it) => peer.connect(id(it.to)),
  disconnect: (it) => peer.disconnect(id(it.to)),
  state: (it) => tell({
    event: 'state',
    peers: peer.peers.toArray().map((link) => link.id.toString('hex')),
    candidates: peer.canidates.toArray().map((each) => each.id.toString('hex')),
    pending: Object.keys(peer.pending).length
  }),
  bind: (it) => socket.bind(it.port, () => tell({ event: 'listening', address: socket.address() })),
  datagram: (it) => {
    const data = Buffer.from(it.data, 'base64')
    socket.send(data, 0, data.length, it.port, it.to)
  }
}

if (socket) {
  socket.on('message', (data, from) => tell({ event: 'datagram', data: data.toString('base64'), from }))
} else {
  peer.on('message', (data, from) => tell({
    event: 'message', from: from.toString('hex'), data, absent: data === undefined
  }))
}

const lines = require('readline').createInterface({ input: process.stdin })
lines.on('line', (line) => {
  const command = JSON.parse(line)
  commands[command.do](command)
})
lines.on('close', () => process.exit(0))

if (options.listen) peer.wsConnector._wss.on('listening', () => process.nextTick(ready))
else ready()
