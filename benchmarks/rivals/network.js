// A network of original peer-relay nodes in one process, on sockets: every node listens, all bootstrap from the first.
//
//   node network.js NODES SETTLE_SECONDS MESSAGES RATE SIZE
//
// Sends MESSAGES strings between random pairs, RATE a second. Prints how many arrived at their receiver, how many frames
// with such messages and how many in all (from the first on) were sent over links, how many links those that arrived had crossed, how many links there are,
// and how many exceptions nobody caught: each of them ends a process that does not ask to survive it, as this one does.
'use strict'

// Each node advertises ws://localhost and listens on IPv4 only.
require('dns').setDefaultResultOrder('ipv4first')

const ws = require(require.resolve('ws', { paths: [require.resolve('peer-relay')] }))
const PeerRelay = require('peer-relay')
const Router = require('peer-relay/lib/router')

const [count, settle, messages, rate, size] = process.argv.slice(2).map(Number)
const nodes = []
const arrived = new Set()
let frames = 0
let every = 0
let faults = 0
let hops = 0
process.on('uncaughtException', () => { faults++ })

const send = ws.prototype.send
ws.prototype.send = function (text, ...rest) {
  every++
  if (typeof text === 'string' && text.includes('"data":{"type":"user"')) frames++
  return send.call(this, text, ...rest)
}

// The path of a message lists who forwarded it; peer-relay tells the application nothing of it.
const receive = Router.prototype._onMessage
Router.prototype._onMessage = function (message) {
  const isNew = !(message.nonce in this._touched)
  const to = typeof message.to === 'string' ? message.to : Buffer.from(message.to).toString('hex')
  if (isNew && message.data.type === 'user' && to === this.id.toString('hex')) hops += message.path.length
  return receive.call(this, message)
}

const add = (bootstrap) => {
  const node = new PeerRelay({ port: 0, bootstrap })
  nodes.push(node)
  node.on('message', (text) => {
    const [number, to] = text.split(' ')
    if (to === node.id.toString('hex')) arrived.add(number)
  })
  return node
}

const report = () => {
  const links = nodes.reduce((sum, node) => sum + node.peers.count(), 0) / 2
  const result = { arrived: arrived.size, frames, every, hops: hops / Math.max(arrived.size, 1), links, faults }
  process.stdout.write(JSON.stringify(result) + '\n', () => process.exit(0))
}

const talk = () => {
  let sent = 0
  every = 0
  const timer = setInterval(() => {
    const from = nodes[Math.floor(Math.random() * count)]
    const others = nodes.filter((node) => node !== from)
    const to = others[Math.floor(Math.random() * others.length)]
    from.send(to.id, `${sent} ${to.id.toString('hex')} `.padEnd(size, 'x'))
    if (++sent === messages) {
      clearInterval(timer)
      setTimeout(report, 1500)
    }
  }, 1000 / rate)
}

const first = add([])
first.wsConnector._wss.on('listening', () => setImmediate(() => {
  const bootstrap = [first.wsConnector.url]
  // One joins after the other is linked, so that nobody is lost in a crowd.
  const join = () => {
    if (nodes.length === count) return setTimeout(talk, settle * 1000)
    add(bootstrap).once('peer', () => setTimeout(join, 20))
  }
  join()
}))
