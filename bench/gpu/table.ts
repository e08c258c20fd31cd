/** The results of bench/gpu as a table. */
import Table from 'cli-table3';

export interface PartResult {
  readonly name: string;
  readonly seconds: number;
  /** Memory of the card, MiB; null where the driver does not say. */
  readonly cardMb: number | null;
  readonly error: string | null;
  readonly result?: Readonly<Record<string, unknown>>;
  readonly text?: string;
}

const CELL_MAX = 70;

export function table(card: string | null, results: readonly PartResult[]): string {
  const steps = new Table({
    head: ['step', 'tokens/s', 'ms', 'first, s', 'gradient off', 'card MiB', 'process MB'],
    style: { head: [], border: [] },
  });
  const others = new Table({ head: ['part', 's', 'result'], style: { head: [], border: [] } });
  for (const one of results) {
    if (one.result !== undefined && 'stepMs' in one.result) steps.push(stepRow(one, one.result));
    else others.push([one.name, one.seconds.toFixed(1), cell(summary(one))]);
  }
  return `${card ?? 'no NVIDIA card'}\n${others.toString()}\n${steps.toString()}\n`;
}

function stepRow(
  { name, cardMb }: PartResult,
  result: Readonly<Record<string, unknown>>,
): string[] {
  const number = (key: string, digits: number, scale = 1): string => {
    const value = result[key];
    return typeof value === 'number' ? (value * scale).toFixed(digits) : '';
  };
  const error = result['gradientError'];
  return [
    name.replace(/^step: /, ''),
    number('tokensPerSecond', 0),
    number('stepMs', 1),
    number('firstMs', 1, 1e-3),
    typeof error === 'number' ? error.toExponential(1) : '',
    cardMb === null ? '' : cardMb.toFixed(0),
    number('processMb', 0),
  ];
}

function summary({ error, result, text = '' }: PartResult): string {
  if (error !== null) return `failed: ${error}`;
  if (result !== undefined) return JSON.stringify(result);
  const passed = text.match(/^ +ok /gm)?.length;
  return passed === undefined
    ? (text.split('\n').at(-1) ?? '')
    : `${passed} measures within bounds`;
}

/** Several lines of at most CELL_MAX characters. */
function cell(text: string): string {
  return (text.match(new RegExp(`.{1,${CELL_MAX}}`, 'g')) ?? []).join('\n');
}
