// A client of ws-relay 0.1.2 in the manner of the original, and a driver for tests: JSON lines in, events out.
//
//   node wsrelay/client.js
//
// Commands name the client that they are for: {"do": "open", "name": "a", "config": {...}}, then "connect", "close",
// "send", "watch", "unwatch", "forget" (takes a handler off). Ends at the end of stdin.
'use strict'

const WebSocket = require('ws')

const KEY_FORMAT = /^[A-Za-z0-9_-]{8,64}$/
const FIRST_DELAY = 1000

class RelayClient {
  #config
  #socket = null
  #delay = FIRST_DELAY
  #timer = null
  #wanted = false
  #handlers = new Map()

  constructor (config) {
    this.#config = { reconnect: true, maxReconnectDelay: 30000, WebSocket: globalThis.WebSocket, ...config }
    if (!this.#config.WebSocket) throw new Error('no WebSocket implementation')
    if (config.key !== undefined && !KEY_FORMAT.test(config.key)) throw new Error('invalid key')
  }

  get channel () { return this.#config.channel }
  get id () { return this.#config.id }
  get address () { return `${this.channel}:${this.id}` }
  get connected () { return this.#socket !== null && this.#socket.readyState === 1 }

  connect () {
    const { url, channel, id, key } = this.#config
    const query = key === undefined ? '' : `?key=${encodeURIComponent(key)}`
    this.#wanted = true
    const socket = new this.#config.WebSocket(`${url.replace(/\/$/, '')}/${channel}/${encodeURIComponent(id)}${query}`)
    this.#socket = socket
    socket.onopen = () => {
      this.#delay = FIRST_DELAY
      this.#emit('open')
    }
    socket.onmessage = ({ data }) => this.#take(typeof data === 'string' ? data : String(data))
    socket.onerror = () => {}
    socket.onclose = () => {
      this.#socket = null
      if (!this.#wanted) return
      this.#emit('close')
      if (this.#config.reconnect) this.#connectLater()
    }
  }

  #connectLater () {
    this.#timer = setTimeout(() => this.connect(), this.#delay)
    this.#delay = Math.min(this.#delay * 2, this.#config.maxReconnectDelay)
  }

  close () {
    this.#wanted = false
    clearTimeout(this.#timer)
    if (this.#socket !== null) this.#socket.close(1000, 'Client closed')
  }

  send (to, payload) { this.#write({ from: this.address, to, payload }) }
  watch (address) { this.#write({ type: 'watch', address }) }
  unwatch (address) { this.#write({ type: 'unwatch', address }) }

  on (event, handler) {
    if (!this.#handlers.has(event)) this.#handlers.set(event, new Set())
    this.#handlers.get(event).add(handler)
  }

  off (event, handler) {
    this.#handlers.get(event)?.delete(handler)
  }

  #emit (event, ...values) {
    for (const handler of this.#handlers.get(event) ?? []) handler(...values)
  }

  #write (value) {
    if (this.connected) this.#socket.send(JSON.stringify(value))
  }

  #take (text) {
    let frame
    try {
      frame = JSON.parse(text)
    } catch {
      return
    }
    if (frame === null || typeof frame !== 'object') return
    const { type, payload, from } = frame
    const told = payload !== null && typeof payload === 'object'
    if (type === 'error' && told) this.#emit('error', payload.code, payload.message)
    else if (type === 'peer-status' && told) this.#emit('peer-status', payload.address, payload.online)
    else if (typeof from === 'string') this.#emit('message', from, payload)
  }
}

// The driver

class BlobSocket extends WebSocket {
  // Binary frames arrive as in a browser.
  constructor (...args) {
    super(...args)
    this.binaryType = 'blob'
  }
}

const EVENTS = ['open', 'close', 'message', 'peer-status', 'error']
const clients = new Map()
const handlers = new Map()
const tell = (event) => process.stdout.write(JSON.stringify(event) + '\n')

const commands = {
  open ({ name, config, browser }) {
    let client
    try {
      client = new RelayClient({ WebSocket: browser ? BlobSocket : WebSocket, ...config })
    } catch (error) {
      tell({ name, event: 'thrown', values: [error.message] })
      return
    }
    clients.set(name, client)
    for (const event of EVENTS) {
      const handler = (...values) => tell({ name, event, values })
      handlers.set(`${name} ${event}`, handler)
      client.on(event, handler)
      client.on(event, handler) // a set: once
    }
    tell({ name, event: 'opened', values: [client.address, client.connected] })
  },
  connect: ({ name }) => clients.get(name).connect(),
  close: ({ name }) => clients.get(name).close(),
  send: ({ name, to, payload }) => clients.get(name).send(to, payload),
  watch: ({ name, address }) => clients.get(name).watch(address),
  unwatch: ({ name, address }) => clients.get(name).unwatch(address),
  forget: ({ name, event }) => clients.get(name).off(event, handlers.get(`${name} ${event}`))
}

const lines = require('readline').createInterface({ input: process.stdin })
lines.on('line', (line) => {
  const command = JSON.parse(line)
  commands[command.do](command)
})
lines.on('close', () => process.exit(0))
