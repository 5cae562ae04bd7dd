// What the documentation of Peerix asks of a server, with npm `socket.io`; and a hub of server-sent events.
//
//   node peerix/servers.mjs PORT TOKEN
//
// Serves 127.0.0.1:PORT, says "ready", and runs until it is killed. Whoever does not show TOKEN is not let in.

import http from 'node:http'
import { Server } from 'socket.io'

const [port, token] = process.argv.slice(2)
const topics = new Map()

const server = http.createServer((request, response) => {
  if (request.headers.authorization !== `Bearer ${token}`) return response.writeHead(401).end()
  const topic = new URL(request.url, 'http://hub').searchParams.get('topic')
  if (request.method === 'GET') {
    if (!topics.has(topic)) topics.set(topic, new Set())
    topics.get(topic).add(response)
    response.on('close', () => topics.get(topic).delete(response))
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    return response.write('retry: 100\n\n')
  }
  let body = ''
  request.on('data', (data) => { body += data })
  request.on('end', () => {
    const form = new URLSearchParams(body)
    if (form.get('topic') !== topic) return response.writeHead(400).end()
    for (const each of topics.get(topic) ?? []) each.write(`id: 1\r\ndata: ${form.get('data')}\r\n\r\n`)
    response.writeHead(200).end('published')
  })
})

const io = new Server(server, { pingInterval: 200, pingTimeout: 500 })
io.use((socket, next) => next(socket.handshake.auth.token === token ? undefined : new Error('wrong token')))
io.on('connection', (socket) => {
  socket.on('peerix:subscribe', (namespace, done) => { socket.join(namespace); done() })
  socket.on('peerix:unsubscribe', (namespace, done) => { socket.leave(namespace); done() })
  socket.on('peerix:publish', (namespace, data, done) => {
    socket.to(namespace).emit('peerix:message', namespace, data)
    done()
  })
})

server.listen(Number(port), '127.0.0.1', () => console.log('ready'))
