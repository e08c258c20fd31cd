/** Who can reach a host: said wherever its addresses are printed. */

/** This machine's own multiaddrs: 127.0.0.0/8 and ::1. */
const LOOPBACK = /^\/(ip4\/127\.|ip6\/::1\/)/;

/** A line for people when some of `addresses` (multiaddrs) can be reached from other machines, else ''. */
export function reachNote(addresses: readonly string[]): string {
  if (addresses.every((address) => LOOPBACK.test(address))) return '';
  return (
    'open to the network: whoever reaches these addresses can connect ' +
    '(--listen /ip4/127.0.0.1/tcp/0 keeps to this machine)\n'
  );
}
