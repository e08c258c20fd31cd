/** The demonstration's result for people: losses, traffic, adapters, and what the model now answers. */
import Table from 'cli-table3';
import { relative } from 'node:path';

import { meanLoss, shortcomings, type Report } from './report.js';

/** One held-out question and what the model says before and after. */
export interface Answer {
  office: string;
  prompt: string;
  /** The completion in the data, which no peer trained on in these words. */
  expected: string;
  before: string;
  /** Another office: its peer's adapter gave `after`. */
  answerer: string;
  after: string;
}

/** Without colours, and without lines between the rows. */
const PLAIN = { style: { head: [], border: [], compact: true } };

/** `names` are the offices, in the order of report.peers. Ends with a line break. */
export function renderReport(
  names: readonly string[],
  report: Report,
  answers: readonly Answer[],
): string {
  const parts = [
    'Held-out loss (nats per answer token; lower is better)',
    lossTable(names, report),
    'Traffic and adapters',
    peerTable(names, report),
    'Held-out questions, asked of the base model and of the shared adapter (greedy)',
    answerTable(answers),
    verdict(report),
  ];
  return `${parts.join('\n')}\n`;
}

function lossTable(names: readonly string[], report: Report): string {
  const table = new Table({
    ...PLAIN,
    head: ['peer', 'questions of', 'before', 'alone', 'swarm', 'personal'],
    colAligns: ['left', 'left', 'right', 'right', 'right', 'right'],
  });
  report.peers.forEach((peer, i) => {
    const domains = Object.entries(peer.heldOutLoss);
    domains.forEach(([domain, { base, alone, swarm, personal }], row) => {
      const first =
        row === 0 ? [{ content: names[i] ?? peer.peerId, rowSpan: domains.length + 1 }] : [];
      table.push([...first, domain, ...[base, alone, swarm, personal].map(nats)]);
    });
    table.push([
      'mean',
      nats(meanLoss(peer, 'base')),
      nats(meanLoss(peer, 'alone')),
      nats(meanLoss(peer, 'swarm')),
      nats(meanLoss(peer, 'personal')),
    ]);
  });
  return table.toString();
}

function peerTable(names: readonly string[], report: Report): string {
  const table = new Table({
    ...PLAIN,
    head: ['peer', 'sent', 'received', 'adapter SHA-256', 'PEFT adapter in'],
    colAligns: ['left', 'right', 'right', 'left', 'left'],
  });
  report.peers.forEach((peer, i) => {
    table.push([
      names[i] ?? peer.peerId,
      kilobytes(peer.bytesSent),
      kilobytes(peer.bytesReceived),
      `${peer.adapterSha256.slice(0, 16)}...`,
      relative(process.cwd(), peer.adapterDir),
    ]);
  });
  return table.toString();
}

function answerTable(answers: readonly Answer[]): string {
  const table = new Table({
    style: { ...PLAIN.style, compact: false },
    head: ['question', 'base model says', 'swarm says', 'expected'],
    colWidths: [40, 26, 24, 24],
    wordWrap: true,
  });
  for (const { office, prompt, before, answerer, after, expected } of answers) {
    table.push([
      `${question(prompt)}\n(of the ${office}, asked at the ${answerer})`,
      oneLine(before),
      oneLine(after),
      oneLine(expected),
    ]);
  }
  return table.toString();
}

function verdict(report: Report): string {
  const failures = shortcomings(report);
  if (failures.length > 0) return failures.join('\n');
  const sha256 = report.peers[0]?.adapterSha256 ?? '';
  return (
    `All ${report.peers.length} peers hold the same adapter, ${sha256}, and each is better over all ` +
    'offices than it would be alone.'
  );
}

function question(prompt: string): string {
  return oneLine(prompt.replace(/^Q: /, '').replace(/\nA:$/, ''));
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

function nats(loss: number): string {
  return loss.toFixed(3);
}

function kilobytes(bytes: number): string {
  return `${(bytes / 1000).toFixed(0)} kB`;
}
