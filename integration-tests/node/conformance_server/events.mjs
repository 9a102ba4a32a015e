// The events of a session's streams, for clients that resume one.
export class Events {
  // In order. An event's id is its place.
  #events = [];

  async storeEvent(stream, message) {
    this.#events.push({ stream, message });
    return String(this.#events.length - 1);
  }

  async getStreamIdForEventId(id) {
    return this.#events[id]?.stream;
  }

  async replayEventsAfter(id, { send }) {
    const { stream } = this.#events[id];
    const rest = this.#events.map((event, index) => ({ ...event, index })).slice(Number(id) + 1);
    for (const { message, index } of rest.filter((event) => event.stream === stream)) {
      await send(String(index), message);
    }
    return stream;
  }
}
