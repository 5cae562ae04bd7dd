// A member of Peerix rooms, written from docs/protocol/peerix.md, for tests: `room` after `join(...)`.

import { SocketDoor, SseDoor } from "./peerix_doors.js";
import { Member } from "./peerix_member.js";
import { Type, agree, makeKeys, namespaceOf, openPayload, readPacket, sealPacket, toBase62 } from "./peerix_wire.js";

const DOORS = { sse: SseDoor, socketio: SocketDoor };
const MOST_EARLY = 100;

class Room {
  constructor({ name, metadata, verify = "true" }) {
    Object.assign(this, { name, metadata, verify: eval(`(metadata) => ${verify}`) });
    this.members = new Map();
    this.pairs = new Map(); // keys by id
    this.publics = new Map(); // ids as bytes by their texts
    this.early = new Map(); // candidates by id
    this.wanted = new Map(); // channels by label
    this.shared = new Map(); // streams by label
    this.inbox = [];
    this.errors = [];
    this.candidates = [];
    this.abortAfter = Infinity;
    this.held = null; // packets that wait for a test
    this.heard = Promise.resolve();
    this.counts = { offers: 0, ignored: 0, rollbacks: 0, failures: 0, requests: 0, refused: 0 };
  }

  async join(hub, door, jwk) {
    this.keys = await makeKeys(jwk);
    this.id = toBase62(this.keys.id);
    this.door = new DOORS[door](hub, () => this.announce());
    const hear = (bytes) => this.hear(bytes).catch((error) => this.onError(error));
    const take = (bytes) => (this.heard = this.heard.then(() => hear(bytes)));
    await this.door.subscribe(await namespaceOf(this.name), take);
    await this.door.subscribe(await namespaceOf(this.id), take);
    await this.announce();
  }

  leave() {
    this.door.close();
    this.members.forEach((member) => member.close());
  }

  // Packets

  announce() {
    return this.tell(Type.announce, null);
  }

  invoke(id) {
    this.tell(Type.invoke, id, this.metadata === undefined ? undefined : [this.metadata]);
  }

  async tell(type, id, payload) {
    try {
      const packet = await sealPacket(type, this.keys.id, payload, this.pairs.get(id));
      await this.door.publish(await namespaceOf(id ?? this.name), packet);
    } catch (error) {
      this.onError(error);
    }
  }

  async hear(bytes) {
    const packet = readPacket(bytes), id = toBase62(packet.sender);
    if (id === this.id) return;
    if (!this.pairs.has(id)) this.pairs.set(id, await agree(this.keys, packet.sender));
    const payload = await openPayload(packet, this.pairs.get(id));
    if (this.held) this.held.push([packet.type, id, payload]);
    else this.take(packet.type, id, payload);
  }

  take(type, id, payload) {
    if (type === Type.announce) this.invoke(id);
    else if (type === Type.invoke) this.admit(id, payload[0]);
    else if (type === Type.offer) this.admit(id, payload[1])?.takeDescription(payload[0]);
    else if (type === Type.answer) this.members.get(id)?.takeDescription(payload[0]);
    else if (this.members.has(id)) this.members.get(id).takeCandidates(payload);
    else this.keepEarly(id, payload);
  }

  // For tests: the first packet of that type that waits; and all others, and those that come.
  takeHeld(type) {
    const [packet] = this.held.splice(this.held.findIndex(([each]) => each === type), 1);
    this.take(...packet);
  }

  release() {
    this.held.splice(0).forEach((packet) => this.take(...packet));
    this.held = null;
  }

  keepEarly(id, candidates) {
    this.early.set(id, [...(this.early.get(id) ?? []), ...candidates].slice(-MOST_EARLY));
  }

  // Members

  admit(id, metadata) {
    if (!this.members.has(id) && this.verify(metadata)) {
      this.members.set(id, new Member(this, id, metadata));
    } else if (!this.members.has(id)) {
      this.counts.refused++;
    }
    return this.members.get(id);
  }

  onGone(member) {
    if (this.members.get(member.id) === member) this.members.delete(member.id);
    this.onChange();
  }

  onChange() {}

  onError(error) {
    this.errors.push(String(error));
  }

  // What the application does; with all members

  open(label, options = {}) {
    this.wanted.set(label, { ordered: true, ...options });
    this.members.forEach((member) => member.up && member.open(label, this.wanted.get(label)));
  }

  send(label, value, options) {
    return Promise.all([...this.members.values()].map((member) => member.channels.get(label).send(value, options)));
  }

  share(label, stream) {
    this.shared.set(label, stream);
    this.members.forEach((member) => member.up && member.share(label, stream));
  }

  unshare(label) {
    this.shared.get(label).getTracks().forEach((track) => track.stop());
    this.shared.delete(label);
    this.members.forEach((member) => member.unshare(label));
  }

  async replace(label, track) {
    const stream = this.shared.get(label), before = stream.getTracks().find(({ kind }) => kind === track.kind);
    stream.removeTrack(before);
    stream.addTrack(track);
    for (const member of this.members.values()) await member.replace(label, track);
    before.stop();
  }

  mayTake({ received }) {
    return received <= this.abortAfter;
  }

  onMessage(member, message) {
    this.inbox.push({ member: member.id, ...message });
  }

  onTrack(member, track, label, mid) {
    const entry = { member: member.id, kind: track.kind, stream: label, mid, ended: false, track };
    const player = (entry[track.kind] = document.createElement(track.kind));
    track.onended = () => (entry.ended = true);
    player.muted = track.kind === "video";
    player.srcObject = new MediaStream([track]);
    player.play().catch(() => 0); // a track that ends at once
    tracks.push(entry); // of bundle.js, like `picture`, `sound` and `colourOf`
  }
}

const hex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");

Object.assign(window, {
  room: null,

  async join({ hub, door, jwk, held = false, ...options }) {
    window.room = new Room(options);
    room.held = held ? [] : null;
    window.prepare?.();
    await room.join(hub, door, jwk);
    return room.id;
  },

  // All members that can be spoken to, with their metadata.
  upMembers: () => [...room.members.values()].filter(({ up }) => up).map(({ id, metadata }) => [id, metadata]).sort(),

  // A message that has come, bytes as their number and SHA-256 if they are many.
  async describe({ value, ...message }) {
    if (!(value instanceof Uint8Array)) return { ...message, value: value ?? null };
    return { ...message, value: value.length > 100 ? [value.length, await sha256(value)] : [...value] };
  },

  async sha256(bytes) {
    return hex(await crypto.subtle.digest("SHA-256", bytes));
  },

  randomBytes(size) {
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
    return bytes;
  },

  camera: (colour, withSound = false) => new MediaStream(withSound ? [picture(colour), sound()] : [picture(colour)]),
});
