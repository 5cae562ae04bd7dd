// A server that does on the wire what ws-relay 0.1.2 does, its defects included, and a driver for tests.
//
//   node wsrelay/server.js
//
// Commands on stdin, JSON lines: {"do": "listen", "config": {...}} answers {"port": n}; {"do": "kill", "port": n} drops
// all connections of that relay and stops it, and answers {"killed": n}. Ends at the end of stdin.
//
// `config` has the original's options; `keys` is a list or false, `refuse` what `verifyPeer` returns for an id ("throw":
// it throws), `decode` the channels whose `parseId` decodes and takes anything, `raw` those whose takes it as it is.
'use strict'

const http = require('http')
const { WebSocketServer } = require('ws')

const KEY_FORMAT = /^[A-Za-z0-9_-]{8,64}$/
const DEFAULTS = {
  port: 0,
  keys: false,
  heartbeatInterval: 30000,
  rateLimitWindow: 60000,
  rateLimitMaxConnections: 30,
  rateLimitMaxMessages: 100,
  onInvalidKey: 'close-after-connect',
  cors: true,
  maxBlobSize: 8192,
  refuse: {},
  decode: [],
  raw: []
}

class Relay {
  constructor (config) {
    this.config = { ...DEFAULTS, ...config }
    this.channels = this.config.channels
      .map((channel) => typeof channel === 'string' ? { name: channel } : channel)
      .sort((one, other) => other.name.length - one.name.length)
    this.peers = new Map() // address -> peer
    this.watchers = new Map() // watched address -> set of addresses
    this.connections = new Map() // IP -> number
    this.active = new Map() // channel -> { active, peak }
    this.blobs = new Map()
    this.relayed = this.total = 0
    this.started = Date.now()
    this.http = http.createServer((request, response) => this.respond(request, response))
    this.sockets = new WebSocketServer({ noServer: true })
    this.http.on('upgrade', (...upgrade) => this.upgrade(...upgrade))
    this.timer = setInterval(() => this.beat(), this.config.heartbeatInterval)
  }

  // Being let in

  keyOf (request) {
    return new URL(request.url, 'http://relay').searchParams.get('key')
  }

  isWellFormed (key) {
    return key !== null && KEY_FORMAT.test(key)
  }

  upgrade (request, stream, head) {
    const { keys, onInvalidKey } = this.config
    if (keys && onInvalidKey === 'reject-upgrade') {
      const key = this.keyOf(request)
      if (!this.isWellFormed(key) || !keys.includes(key)) {
        const headers = 'Connection: close\r\nContent-Type: text/html\r\nContent-Length: 11'
        stream.end(`HTTP/1.1 403 Forbidden\r\n${headers}\r\n\r\nInvalid key`)
        return
      }
    }
    this.sockets.handleUpgrade(request, stream, head, (socket) => this.accept(socket, request))
  }

  parse (url) {
    const path = url.split(/[?#]/)[0]
    for (const { name } of this.channels) {
      if (!path.startsWith(`/${name}/`)) continue
      const raw = path.slice(name.length + 2)
      if (raw === '' || raw.includes('/')) continue
      if (this.config.decode.includes(name)) return { channel: name, id: decodeURIComponent(raw) }
      if (this.config.raw.includes(name) || KEY_FORMAT.test(raw)) return { channel: name, id: raw }
    }
    return null
  }

  async accept (socket, request) {
    const { keys, onInvalidKey, refuse, rateLimitMaxConnections } = this.config
    const refused = (code, message, closeCode, reason) => {
      this.tell(socket, 'error', { code, message })
      socket.close(closeCode, reason)
    }
    const forwarded = request.headers['x-forwarded-for']
    const ip = forwarded ? forwarded.split(',').pop().trim() : request.socket.remoteAddress ?? 'unknown'
    const held = this.connections.get(ip) ?? 0
    if (held >= rateLimitMaxConnections) return refused('RATE_LIMITED', 'Too many connections', 1008, 'Rate limited')
    this.connections.set(ip, held + 1) // who is refused from here on keeps it
    if (keys && onInvalidKey === 'close-after-connect') {
      const key = this.keyOf(request)
      if (!this.isWellFormed(key)) return refused('INVALID_KEY', 'Missing or invalid access key', 1008, 'Invalid key')
      if (!keys.includes(key)) return refused('INVALID_KEY', 'Access key rejected', 1008, 'Invalid key')
    }
    const parsed = this.parse(request.url)
    if (parsed === null) return refused('INVALID_URL', 'Invalid connection URL', 1002, 'Invalid URL')
    const verdict = refuse[parsed.id]
    if (verdict === 'throw') return socket.close(1011, 'Internal verification error')
    if (verdict) {
      const { reason, closeCode, errorCode } = verdict
      const message = reason ?? 'Peer verification failed'
      return refused(errorCode ?? 'VERIFY_FAILED', message, closeCode ?? 1008, reason ?? 'Verify failed')
    }
    this.join(socket, parsed, ip, refused)
  }

  join (socket, { channel, id }, ip, refused) {
    const address = `${channel}:${id}`
    const old = this.peers.get(address)
    if (old) {
      const { onDuplicate } = this.channels.find(({ name }) => name === channel)
      if (onDuplicate === 'reject') return refused('ID_IN_USE', 'ID already connected on this channel', 1008, 'ID in use')
      this.tell(old.socket, 'error', { code: 'REPLACED', message: 'Replaced by new connection' })
      old.socket.close(1000, 'Replaced')
    }
    const peer = { socket, channel, address, ip, count: 0, windowStart: Date.now(), alive: true }
    this.peers.set(address, peer)
    this.total += 1
    const { active, peak } = this.active.get(channel) ?? { active: 0, peak: 0 }
    this.active.set(channel, { active: active + 1, peak: Math.max(peak, active + 1) })
    this.announce(address, true)
    socket.on('pong', () => { peer.alive = true })
    socket.on('error', () => {})
    socket.on('message', (data) => this.take(peer, data))
    socket.on('close', () => this.leave(peer))
  }

  leave ({ address, channel, ip }) {
    this.connections.set(ip, this.connections.get(ip) - 1)
    this.announce(address, false)
    for (const watchers of this.watchers.values()) watchers.delete(address)
    this.active.get(channel).active -= 1
    this.peers.delete(address) // whoever has it by now
  }

  beat () {
    for (const peer of this.peers.values()) {
      if (peer.alive) {
        peer.alive = false
        peer.socket.ping()
      } else peer.socket.terminate()
    }
  }

  // Messages

  tell (socket, type, payload) {
    if (socket.readyState === 1) socket.send(JSON.stringify({ type, payload }))
  }

  announce (address, online) {
    for (const watcher of this.watchers.get(address) ?? []) {
      const peer = this.peers.get(watcher)
      if (peer) this.tell(peer.socket, 'peer-status', { address, online })
    }
  }

  isOverLimit (peer) {
    const now = Date.now()
    if (now - peer.windowStart > this.config.rateLimitWindow) {
      peer.count = 0
      peer.windowStart = now
    }
    peer.count += 1
    return peer.count > this.config.rateLimitMaxMessages
  }

  take (peer, data) {
    if (this.isOverLimit(peer)) {
      this.tell(peer.socket, 'error', { code: 'RATE_LIMITED', message: 'Too many messages' })
      return
    }
    let message
    try {
      message = JSON.parse(data)
    } catch {
      return
    }
    if (message === null || typeof message !== 'object') return
    const { type, address, from, to } = message
    if (type === 'watch' && typeof address === 'string') this.watch(peer, address)
    else if (type === 'unwatch' && typeof address === 'string') this.watchers.get(address)?.delete(peer.address)
    else if (typeof from === 'string' && typeof to === 'string') this.route(peer, from, to, data)
  }

  watch (peer, address) {
    if (!this.watchers.has(address)) this.watchers.set(address, new Set())
    this.watchers.get(address).add(peer.address)
    this.tell(peer.socket, 'peer-status', { address, online: this.peers.has(address) })
  }

  route (peer, from, to, data) {
    if (from !== peer.address) {
      const message = 'From field does not match sender identity'
      this.tell(peer.socket, 'error', { code: 'INVALID_FROM', message })
      return
    }
    const target = this.peers.get(to)
    if (!target || target.socket.readyState !== 1) return
    target.socket.send(data) // a Buffer, so this is a binary frame
    this.relayed += 1
  }

  // HTTP

  respond (request, response) {
    const { cors, maxBlobSize } = this.config
    if (cors) {
      response.setHeader('Access-Control-Allow-Origin', cors === true ? '*' : cors)
      response.setHeader('Access-Control-Allow-Methods', 'GET, PUT, DELETE, OPTIONS')
      response.setHeader('Access-Control-Allow-Headers', 'Content-Type')
    }
    const json = (status, value) => {
      response.writeHead(status, { 'Content-Type': 'application/json' })
      response.end(JSON.stringify(value))
    }
    const channels = Object.fromEntries(this.active)
    const uptime = Date.now() - this.started
    const key = request.url.startsWith('/blob/') ? request.url.slice(6) : ''
    if (request.method === 'OPTIONS') {
      response.writeHead(204)
      response.end()
    } else if (request.url === '/health') {
      json(200, { status: 'ok', connections: channels, uptime })
    } else if (request.url === '/stats') {
      const counts = { totalConnections: this.total, messagesRelayed: this.relayed, startTime: this.started }
      json(200, { ...counts, channels, uptime, blobStore: { entries: this.blobs.size } })
    } else if (KEY_FORMAT.test(key) && request.method === 'GET') {
      if (this.blobs.has(key)) json(200, { data: this.blobs.get(key) })
      else json(404, { error: 'Not found' })
    } else if (KEY_FORMAT.test(key) && request.method === 'DELETE') {
      const was = this.blobs.delete(key)
      json(was ? 200 : 404, { ok: was })
    } else if (KEY_FORMAT.test(key) && request.method === 'PUT') {
      const pieces = []
      request.on('data', (piece) => pieces.push(piece)) // all of it, however much
      request.on('end', () => {
        const text = Buffer.concat(pieces).toString()
        if (text.length > maxBlobSize) return json(413, { error: `Blob exceeds max size (${maxBlobSize} bytes)` })
        this.blobs.set(key, text)
        json(200, { ok: true })
      })
    } else {
      response.writeHead(404)
      response.end('Not Found')
    }
  }

  kill () {
    clearInterval(this.timer)
    this.http.close()
    this.http.closeAllConnections()
    for (const socket of this.sockets.clients) socket.terminate()
  }
}

// The driver

const relays = new Map()
const tell = (event) => process.stdout.write(JSON.stringify(event) + '\n')

const commands = {
  listen ({ config }) {
    const relay = new Relay(config)
    relay.http.listen(relay.config.port, '127.0.0.1', () => {
      const { port } = relay.http.address()
      relays.set(port, relay)
      tell({ port })
    })
  },
  kill ({ port }) {
    relays.get(port).kill()
    relays.delete(port)
    tell({ killed: port })
  }
}

const lines = require('readline').createInterface({ input: process.stdin })
lines.on('line', (line) => {
  const command = JSON.parse(line)
  commands[command.do](command)
})
lines.on('close', () => process.exit(0))
