/**
 * Yamux that outlives a connection which ends under it. It opens a stream in a microtask of its own, where an
 * error of the connection reaches nobody and would end the process; a relay that dies at that moment is enough.
 */
import type { MessageStream, StreamMuxerFactory } from '@libp2p/interface';
import { yamux } from '@libp2p/yamux';

/** As @libp2p/yamux makes it. */
export function calmYamux(init: Parameters<typeof yamux>[0]): () => StreamMuxerFactory {
  const make = yamux(init);
  return () => {
    const factory = make();
    const createStreamMuxer = factory.createStreamMuxer.bind(factory);
    factory.createStreamMuxer = (connection) => {
      calm(connection);
      return createStreamMuxer(connection);
    };
    return factory;
  };
}

/** What cannot be sent any more is dropped: the streams learn of it as they end, with the connection. */
function calm(connection: MessageStream): void {
  const send = connection.send.bind(connection);
  connection.send = (data) => {
    try {
      return send(data);
    } catch (error) {
      // One that is closing politely ends by itself; one that only cannot send would hang.
      if (connection.status === 'open') {
        connection.abort(error instanceof Error ? error : new TypeError(String(error)));
      }
      return false;
    }
  };
}
