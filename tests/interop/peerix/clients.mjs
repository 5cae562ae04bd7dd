// Clients of npm `socket.io-client`, and of a Mercure hub by `fetch`, driven by tests.
//
//   node peerix/clients.mjs
//
// Commands on stdin, JSON lines, each answered by one line {"ref", "result"} or {"ref", "error"} when it is done.

import readline from 'node:readline'
import { Decoder, Encoder } from 'socket.io-parser'
import { io } from 'socket.io-client'

const sockets = new Map()
const streams = new Map()

/** Values in the order in which they came, for whoever asks for the next one. */
class Queue {
  #values = []
  #waiting = []

  put (value) {
    const next = this.#waiting.shift()
    if (next) next(value)
    else this.#values.push(value)
  }

  take () {
    return this.#values.length ? Promise.resolve(this.#values.shift()) : new Promise((resolve) => this.#waiting.push(resolve))
  }
}

const commands = {
  // As the driver of Peerix uses it.
  connect ({ name, url, options, prefix = 'peerix:' }) {
    const socket = io(url, { forceNew: true, reconnection: false, ...options })
    const client = { socket, prefix, messages: new Queue(), ends: new Queue() }
    sockets.set(name, client)
    socket.on(`${prefix}message`, (namespace, data) => client.messages.put([namespace, data]))
    socket.on('disconnect', (reason) => client.ends.put(reason))
    return new Promise((resolve, reject) => {
      socket.on('connect', () => resolve(socket.id.length > 0))
      socket.on('connect_error', reject)
    })
  },
  ask ({ name, event, args, timeout = 10000 }) {
    const { socket, prefix } = sockets.get(name)
    return new Promise((resolve, reject) => {
      socket.timeout(timeout).emit(`${prefix}${event}`, ...args, (error, ...answer) => error ? reject(error) : resolve(answer))
    })
  },
  message: ({ name }) => sockets.get(name).messages.take(),
  end: ({ name }) => sockets.get(name).ends.take(),
  transport: ({ name }) => sockets.get(name).socket.io.engine?.transport.name,
  async upgraded ({ name }) {
    const { engine } = sockets.get(name).socket.io
    if (engine.transport.name !== 'websocket') await new Promise((resolve) => engine.once('upgrade', resolve))
    return engine.transport.name
  },
  close ({ name }) {
    sockets.get(name).socket.close()
  },

  // As a browser's EventSource reads it.
  async listen ({ name, url, headers }) {
    const response = await fetch(url, { headers: { accept: 'text/event-stream', ...headers } })
    if (response.status !== 200) return response.status
    const events = new Queue()
    streams.set(name, { events, response })
    read(response, events)
    return response.headers.get('content-type')
  },
  event: ({ name }) => streams.get(name).events.take(),

  async publish ({ url, topic, data, headers }) {
    const body = new URLSearchParams({ topic, data })
    const response = await fetch(`${url}?topic=${topic}`, { method: 'POST', headers, body })
    return [response.status, await response.text()]
  },

  // The codec.
  encode: ({ packets }) => packets.map((packet) => new Encoder().encode(packet)[0]),
  decode: ({ texts }) => texts.map((text) => {
    let found = null
    const decoder = new Decoder()
    decoder.on('decoded', (packet) => { found = packet })
    decoder.add(text)
    return found
  })
}

async function read (response, events) {
  let text = ''
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    text += piece
    for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
      const data = text.slice(0, end).split('\n').filter((line) => line.startsWith('data:'))
      if (data.length) events.put(data.map((line) => line.slice(6)).join('\n'))
    }
  }
  events.put(null)
}

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const { ref, do: name, ...options } = JSON.parse(line)
  const answer = await Promise.resolve().then(() => commands[name](options)).then(
    (result) => ({ ref, result: result ?? null }), (error) => ({ ref, error: String(error.message ?? error) }))
  process.stdout.write(JSON.stringify(answer) + '\n')
}).on('close', () => process.exit(0))
