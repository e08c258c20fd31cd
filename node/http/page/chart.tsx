/** A line chart over epochs: uPlot, in the colours of the page, as wide as its place. */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';

export interface Line {
  label: string;
  values: (number | null)[];
  /** Name of the custom property of page.css that holds its colour. */
  colour: string;
  /** In px. */
  width: number;
  /** Lengths of dashes and gaps in px; a whole line without. */
  dash?: number[];
  /** Whether the last value holds on to the end of the axis. */
  isConstant?: boolean;
}

interface ChartProps {
  /** For who cannot see it: what is drawn, and the newest values. */
  description: string;
  epochs: number[];
  lines: readonly Line[];
  /** In px; its place is kept before there is anything to draw. */
  height: number;
  lastEpoch: number;
  /** Whether the axis begins at 0. */
  fromZero?: boolean;
  /** Index of the epoch under the pointer; null when there is none. */
  onHover?: (index: number | null) => void;
}

/** Between the numbers below the chart: epochs are whole. */
const EPOCH_STEPS = [1, 2, 5]
  .flatMap((n) => [1, 10, 100, 1_000, 10_000].map((ten) => n * ten))
  .sort((a, b) => a - b);

/** Values between grid lines never touch the edges of the chart. */
const MARGIN = 0.08;

export function Chart(props: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;

  useEffect(() => {
    const element = place.current;
    if (element === null) return undefined;
    const dark = window.matchMedia('(prefers-color-scheme: dark)');
    const draw = (): void => {
      chart.current?.destroy();
      chart.current = new uPlot(optionsOf(latest, element), dataOf(latest.current), element);
    };
    draw();
    const resized = new ResizeObserver(() => {
      chart.current?.setSize({ width: element.clientWidth, height: latest.current.height });
    });
    resized.observe(element);
    dark.addEventListener('change', draw);
    return () => {
      resized.disconnect();
      dark.removeEventListener('change', draw);
      chart.current?.destroy();
      chart.current = null;
    };
  }, []);

  const { epochs, lines, lastEpoch, height, description } = props;
  useEffect(
    () => chart.current?.setData(dataOf(props)),
    [JSON.stringify([epochs, lastEpoch, lines])],
  );
  return (
    <div class="chart" style={{ height }}>
      <div ref={place} role="img" aria-label={description} />
      {epochs.length === 0 && <p class="empty">The first point comes with the end of an epoch.</p>}
    </div>
  );
}

function dataOf({ epochs, lines, lastEpoch }: ChartProps): uPlot.AlignedData {
  const end = (line: Line): number | null =>
    line.isConstant === true ? (line.values[0] ?? null) : null;
  return [
    [...epochs, Math.max(lastEpoch, (epochs.at(-1) ?? 0) + 1)],
    ...lines.map((line) => [...line.values, end(line)]),
  ];
}

function optionsOf(latest: { current: ChartProps }, element: HTMLElement): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const font = `12px ${style.fontFamily}`;
  const grid = { stroke: colour('--line'), width: 1 };
  const ticks = { show: false };
  const axis = { stroke: colour('--muted'), font, grid, ticks };
  return {
    width: element.clientWidth,
    height: latest.current.height,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: {
      x: { time: false, range: () => [0, latest.current.lastEpoch] },
      y: { range: (_chart, low, high) => rangeOf(low, high, latest.current.fromZero === true) },
    },
    axes: [
      { ...axis, size: 28, grid: { show: false }, incrs: EPOCH_STEPS, space: 44 },
      { ...axis, size: 44, space: 36, values: (_chart, splits) => labels(splits, latest.current) },
    ],
    series: [
      {},
      ...latest.current.lines.map(({ label, colour: name, width, dash }) => ({
        label,
        stroke: colour(name),
        width,
        spanGaps: true,
        points: {
          show: !dash,
          size: 2 * width + 2,
          fill: colour(name),
          stroke: colour(name),
          space: 8,
        },
        ...(dash && { dash }),
      })),
    ],
    hooks: {
      setCursor: [({ cursor }) => latest.current.onHover?.(cursor.idx ?? null)],
    },
  };
}

/** No numbers where nothing was measured. */
function labels(splits: number[], { epochs }: ChartProps): string[] {
  return splits.map((value) => (epochs.length === 0 ? '' : value.toLocaleString('en')));
}

/** With room above and below, also where all values are one. */
function rangeOf(low: number | null, high: number | null, fromZero: boolean): [number, number] {
  if (low === null || high === null) return [0, 1];
  const margin = (high - low || Math.abs(high) || 1) * MARGIN;
  return [fromZero ? 0 : Math.max(0, low - margin), high + margin];
}
