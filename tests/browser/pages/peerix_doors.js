// Ways to a hub: its event streams (Mercure), and its Socket.IO over a WebSocket, as far as rooms need it.

import { fromBase64 } from "./peerix_wire.js";

export class SseDoor {
  constructor(url, onActive) {
    this.url = `${url}/.well-known/mercure`;
    this.onActive = onActive;
    this.sources = new Map();
  }

  subscribe(topic, take) {
    const source = new EventSource(`${this.url}?topic=${encodeURIComponent(topic)}`);
    this.sources.set(topic, source);
    source.onmessage = ({ data }) => take(fromBase64(data));
    return new Promise((resolve) => {
      let before = false;
      source.onopen = () => {
        if (before) this.onActive();
        before = true;
        resolve();
      };
    });
  }

  async publish(topic, packet) {
    const data = btoa(String.fromCharCode(...packet));
    const answer = await fetch(`${this.url}?topic=${encodeURIComponent(topic)}`, {
      method: "POST",
      body: new URLSearchParams({ topic, data }),
    });
    if (!answer.ok) throw new Error(`the hub says ${answer.status}`);
  }

  close() {
    this.sources.forEach((source) => source.close());
    this.sources.clear();
  }
}

// Engine.IO 4 puts a digit before each message (0 open, 2 ping, 3 pong, 4 message), Socket.IO 5 another one before that
// (0 connect, 2 event, 3 acknowledgement).
export class SocketDoor {
  constructor(url) {
    this.takers = new Map();
    this.waiting = new Map();
    this.number = 0;
    this.socket = new WebSocket(`${url.replace(/^http/, "ws")}/socket.io/?EIO=4&transport=websocket`);
    this.connected = new Promise((resolve) => {
      this.socket.onmessage = ({ data }) => {
        if (data[0] === "0") this.socket.send("40");
        else if (data === "2") this.socket.send("3");
        else if (data.startsWith("40")) resolve();
        else if (data.startsWith("42")) this.hear(JSON.parse(data.slice(2)));
        else if (data.startsWith("43")) this.waiting.get(parseInt(data.slice(2)))(data.slice(data.indexOf("[")));
      };
    });
  }

  hear([event, topic, numbers]) {
    if (event === "peerix:message") this.takers.get(topic)?.(Uint8Array.from(numbers));
  }

  async ask(...event) {
    await this.connected;
    const number = this.number++;
    const answer = await new Promise((resolve) => {
      this.waiting.set(number, resolve);
      this.socket.send(`42${number}${JSON.stringify(event)}`);
    });
    this.waiting.delete(number);
    if (answer !== "[]") throw new Error(`the hub says ${answer}`);
  }

  async subscribe(topic, take) {
    this.takers.set(topic, take);
    await this.ask("peerix:subscribe", topic);
  }

  async publish(topic, packet) {
    await this.ask("peerix:publish", topic, Array.from(packet));
  }

  close() {
    this.socket.close();
  }
}
