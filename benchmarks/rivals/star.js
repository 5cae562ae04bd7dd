// Original peer-relay nodes that do not listen, each linked with one relay; driven by lines of JSON.
//
//   node star.js URL
//
// {"open": true} adds a node and is answered with {"id": ...} when it is linked. {"send": [ID, ...], "rate", "messages",
// "size"} makes each node send to the id at its place, in turn, strings of `size` characters, so many a second in all,
// and is answered with {"sent": ...}. The end of input is answered with {"delays": [seconds, ...]}: those of every
// message that a node here was told of.
'use strict'

const PeerRelay = require('peer-relay')

const now = () => Number(process.hrtime.bigint()) / 1e9 // the same clock in every process of a machine
const write = (value, done) => process.stdout.write(JSON.stringify(value) + '\n', done)
const nodes = []
const delays = []

const open = () => {
  const node = new PeerRelay({ bootstrap: [process.argv[2]] })
  nodes.push(node)
  node.on('message', (text) => delays.push(now() - parseFloat(text)))
  node.once('peer', () => write({ id: node.id.toString('hex') }))
}

const send = (targets, { rate, messages, size }) => {
  const start = now()
  let sent = 0
  const step = () => {
    for (const due = Math.min((now() - start) * rate, messages); sent < due; sent++) {
      nodes[sent % nodes.length].send(targets[sent % nodes.length], now().toFixed(9).padEnd(size, ' x'))
    }
    if (sent < messages) setTimeout(step, 1)
    else write({ sent })
  }
  step()
}

require('readline').createInterface({ input: process.stdin })
  .on('line', (line) => {
    const command = JSON.parse(line)
    if (command.open) open()
    else send(command.send.map((id) => Buffer.from(id, 'hex')), command)
  })
  .on('close', () => write({ delays }, () => process.exit(0)))
