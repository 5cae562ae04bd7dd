// One original node that sends or receives through a relay, as fast as a window lets it; the counterpart of
// benchmarks/end.py, which says what goes over stdin and stdout.
'use strict'

const net = require('net')
const PeerRelay = require('peer-relay')

const FIRST = 'first'
const options = JSON.parse(process.argv[2])
const peer = new PeerRelay({ bootstrap: [options.url] })
const quarter = Math.max(options.window >> 2, 1)
const tell = (about) => process.stdout.write(JSON.stringify(about) + '\n')
const now = () => process.hrtime.bigint() // the same clock in every process of a machine
let count = 0
let delays = []
let stopped = false

function receive () {
  let credit = null
  let found = false
  peer.on('message', (data) => {
    const arrived = now()
    if (data === FIRST) {
      if (!found) credit.write('r')
      found = true
    } else if (data.length === options.size) {
      count++
      if (options.rate) delays.push(Number(arrived - BigInt(data.slice(0, data.indexOf(' ')))) / 1000)
      if (count % quarter === 0) credit.write('c')
    }
  })
  const server = net.createServer({ noDelay: true }, (socket) => { credit = socket.on('error', () => {}) })
  server.listen(0, '127.0.0.1', () => tell({ id: peer.id.toString('hex'), credit: server.address().port }))
}

function send () {
  const to = Buffer.from(options.to, 'hex')
  const payload = require('crypto').randomBytes(options.size).toString('base64').slice(0, options.size)
  let credited = 0
  let ready = false
  const asking = setInterval(() => peer.send(to, FIRST), 100)
  const credit = net.connect({ port: options.credit, host: '127.0.0.1', noDelay: true })
  credit.on('data', (data) => {
    let quarters = data.length
    if (!ready) {
      ready = true
      quarters--
      clearInterval(asking)
      tell({ ready: true })
      if (options.rate) pace(to)
    }
    credited += quarters * quarter
    while (!stopped && !options.rate && count - credited <= options.window - quarter) {
      for (let i = 0; i < quarter; i++) peer.send(to, payload)
      count += quarter
    }
  })
}

function pace (to) {
  const start = now()
  const step = () => {
    if (stopped) return
    count++
    peer.send(to, `${now()} `.padEnd(options.size, 'x'))
    const due = count / options.rate * 1000 - Number(now() - start) / 1e6
    setTimeout(step, Math.max(due, 0))
  }
  step()
}

const lines = require('readline').createInterface({ input: process.stdin })
lines.on('line', (line) => {
  if (line === 'stop') stopped = true
  if (line === 'delays') {
    tell({ count, delays })
    delays = []
  } else {
    tell({ count })
  }
})
lines.on('close', () => process.exit(0))
peer.once('peer', options.to ? send : receive)
