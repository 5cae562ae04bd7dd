// The connection with one other member of a Peerix room: docs/protocol/peerix.md, sections 5 and 6.

import { Channel } from "./peerix_channel.js";
import { Type, decode, encode, fromJson, toJson } from "./peerix_wire.js";

const CONTROL = { 1: "uint32", 2: "bytes" }, SIGNAL = 1, CHANNEL = 2;
const DEBOUNCE = 50, PATIENCE = 15000;

const fragmentOf = (description) => /^a=ice-ufrag:(\S+)/m.exec(description.sdp)?.[1];

export class Member {
  constructor(room, id, metadata) {
    Object.assign(this, { room, id, metadata, polite: room.id > id, closed: false });
    this.channels = new Map();
    this.sent = new Map(); // label: {stream, transceivers}
    this.labels = {};
    this.found = []; // candidates that are not told yet
    this.held = null; // what came on the control channel, and waits for a test
    this.ignoring = false;
    this.last = Promise.resolve();
    this.connection = new RTCPeerConnection();
    this.connection.onnegotiationneeded = () => this.queue(() => this.offer());
    this.connection.onicecandidate = ({ candidate }) => candidate?.candidate && this.tellCandidate(candidate.toJSON());
    this.connection.oniceconnectionstatechange = () => this.connection.iceConnectionState === "failed" && this.fail();
    this.connection.ondatachannel = ({ channel }) => this.adopt(channel);
    this.connection.ontrack = (event) => this.onTrack(event);
    this.timer = setTimeout(() => this.fail(), PATIENCE);
    this.control = this.connection.createDataChannel("", { negotiated: true, id: 0 });
    this.control.binaryType = "arraybuffer";
    this.control.onopen = () => this.onOpen();
    this.control.onclose = () => this.close();
    this.control.onmessage = ({ data }) => (this.held ? this.held.push(data) : this.onControl(data));
  }

  get up() {
    return this.control.readyState === "open";
  }

  // One thing after the other.
  queue(work) {
    this.last = this.last.then(() => this.closed || work()).catch((error) => this.closed || this.room.onError(error));
  }

  // Negotiation

  async offer() {
    if (this.connection.signalingState !== "stable") return;
    await this.connection.setLocalDescription();
    this.room.counts.offers++;
    this.tellDescription(this.connection.localDescription.toJSON());
  }

  takeDescription(description, labels) {
    this.queue(async () => {
      const { connection, room } = this, stable = connection.signalingState === "stable";
      if (description.type === "answer" && stable) return;
      this.ignoring = description.type === "offer" && !stable && !this.polite;
      if (this.ignoring) return room.counts.ignored++;
      if (description.type === "offer" && !stable) room.counts.rollbacks++;
      if (labels) this.labels = labels;
      await connection.setRemoteDescription(description);
      if (description.type === "offer") {
        await connection.setLocalDescription();
        this.tellDescription(connection.localDescription.toJSON());
      }
      const early = room.early.get(this.id) ?? [];
      room.early.delete(this.id);
      this.takeCandidates(early);
    });
  }

  // From the broker: each belongs to the description whose ICE user name it has.
  takeCandidates(candidates) {
    this.queue(async () => {
      const { remoteDescription } = this.connection;
      for (const candidate of candidates) {
        if (!remoteDescription || fragmentOf(remoteDescription) !== candidate.usernameFragment) {
          this.room.keepEarly(this.id, [candidate]);
        } else {
          await this.addCandidate(candidate);
        }
      }
    });
  }

  async addCandidate(candidate) {
    if (candidate.candidate && !this.ignoring) await this.connection.addIceCandidate(candidate);
  }

  tellDescription({ type, sdp }) {
    if (this.up) this.say(SIGNAL, [{ type, sdp }, ...(type === "offer" ? [this.ownLabels()] : [])]);
    else if (type === "offer") this.room.tell(Type.offer, this.id, [{ type, sdp }, this.room.metadata ?? null]);
    else this.room.tell(Type.answer, this.id, [{ type, sdp }]);
  }

  tellCandidate(candidate) {
    this.room.candidates.push(candidate.candidate);
    if (this.up) return this.say(SIGNAL, [candidate]);
    this.found.push(candidate);
    clearTimeout(this.debounce);
    this.debounce = setTimeout(() => this.room.tell(Type.candidates, this.id, this.found.splice(0)), DEBOUNCE);
  }

  // The control channel

  say(event, payload) {
    this.control.send(encode([[1, event], [2, toJson(payload)]]));
  }

  onOpen() {
    clearTimeout(this.timer);
    this.room.wanted.forEach((options, label) => this.open(label, options));
    this.room.shared.forEach((stream, label) => this.share(label, stream));
    this.room.onChange();
  }

  onControl(data) {
    const { 1: event, 2: payload } = decode(new Uint8Array(data), CONTROL);
    if (event === SIGNAL) {
      const [signal, labels] = fromJson(payload);
      if (signal.sdp !== undefined) this.takeDescription(signal, labels);
      else this.queue(() => this.addCandidate(signal));
    } else if (event === CHANNEL) {
      const { label = "default", ...options } = fromJson(payload);
      this.room.counts.requests++;
      if (!this.polite) this.open(label, options);
    }
  }

  release() {
    this.held.splice(0).forEach((data) => this.onControl(data));
    this.held = null;
  }

  // Data channels

  open(label, options) {
    if (this.polite) this.say(CHANNEL, { label, ...options });
    else if (!this.channels.has(label)) this.adopt(this.connection.createDataChannel(label, options));
  }

  adopt(raw) {
    const channel = new Channel(raw, {
      onMessage: (message) => this.room.onMessage(this, message),
      mayTake: (message) => this.room.mayTake(message),
      onClose: () => this.channels.get(raw.label) === channel && this.channels.delete(raw.label),
    });
    this.channels.set(raw.label, channel);
  }

  // Streams: one sendonly transceiver for each track

  ownLabels() {
    return Object.fromEntries([...this.sent].map(([label, { stream }]) => [stream.id, label]));
  }

  share(label, stream) {
    const add = (track) => this.connection.addTransceiver(track, { direction: "sendonly", streams: [stream] });
    this.sent.set(label, { stream, transceivers: stream.getTracks().map(add) });
  }

  unshare(label) {
    this.sent.get(label)?.transceivers.forEach((transceiver) => transceiver.stop());
    this.sent.delete(label);
  }

  async replace(label, track) {
    const { transceivers } = this.sent.get(label);
    await transceivers.find(({ sender }) => sender.track?.kind === track.kind).sender.replaceTrack(track);
  }

  onTrack({ track, streams: [stream], transceiver }) {
    this.room.onTrack(this, track, this.labels[stream.id] ?? stream.id, transceiver.mid);
  }

  // The end

  fail() {
    if (this.closed) return;
    this.room.counts.failures++;
    this.close();
    setTimeout(() => this.room.invoke(this.id), Math.random() * 1000);
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.timer);
    clearTimeout(this.debounce);
    this.connection.close();
    this.room.onGone(this);
  }
}
