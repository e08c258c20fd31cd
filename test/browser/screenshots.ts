/**
 * Takes the pictures of docs/images: the page of one of three peers, each with the data of one office, in the middle
 * of a real run. `npm run screenshots -- --epoch-seconds 20` where the machine is busy.
 */
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { PACKAGE_DIRECTORY } from '../../node/version.js';
import { CommandLine } from '../net/command-line.js';
import { openBrowser, openPage } from './browser.js';

const IMAGES = join(PACKAGE_DIRECTORY, 'docs', 'images');
const DATA = join(PACKAGE_DIRECTORY, 'examples', 'three-offices', 'data');
const LOCAL = ['--listen', '/ip4/127.0.0.1/tcp/0', '--threads', '1'];
const EPOCHS = 24;
/** Late enough for curves, early enough for something to happen. */
const SHOWN_EPOCH = 18;
/** Of a picture. */
const BYTES_MAX = 200_000;

const { values } = parseArgs({ options: { 'epoch-seconds': { type: 'string', default: '6' } } });
const epochSeconds = Number(values['epoch-seconds']);
const RUN = [
  ...['--name', 'Three offices', '--seed', 'three-offices', '--epochs', String(EPOCHS)],
  ...['--epoch-seconds', String(epochSeconds), '--steps', '10', '--batch-size', '8'],
  ...['--sequence-length', '64', '--learning-rate', '1e-2', '--start-in', '20'],
];

const place = await mkdtemp(join(tmpdir(), 'murmurate-screenshots-'));
const peers: CommandLine[] = [];
const browser = await openBrowser();
try {
  const own = (office: string): string[] => [
    ...['--dir', join(place, office), '--data', join(DATA, `${office}.jsonl`)],
    ...LOCAL,
  ];
  const founder = new CommandLine(['start', ...own('clinic'), ...RUN]);
  peers.push(founder);
  const { address, url } = await founder.facts();
  for (const office of ['law-office', 'machine-shop'])
    peers.push(new CommandLine(['join', address, ...own(office)]));
  await mkdir(IMAGES, { recursive: true });
  const schemes = ['light', 'dark'] as const;
  const pages = schemes.map(async (colorScheme) => {
    const viewport = { width: 1240, height: 1600 };
    const { page } = await openPage(browser, { colorScheme, viewport });
    page.setDefaultTimeout(EPOCHS * epochSeconds * 1000 + 120_000);
    await page.goto(url);
    await page.locator(`[aria-valuenow="${SHOWN_EPOCH}"]`).waitFor({ state: 'attached' });
    const path = join(IMAGES, `page-${colorScheme}.png`);
    // Down to the list of members: the rest is looked up now and then.
    const list = await page.locator('[aria-labelledby=members]').boundingBox();
    const height = Math.ceil((list?.y ?? 0) + (list?.height ?? 0)) + 10;
    await page.screenshot({ path, clip: { x: 0, y: 0, width: viewport.width, height } });
    const { size } = await stat(path);
    if (size > BYTES_MAX) throw new Error(`${path} has ${size} bytes, more than ${BYTES_MAX}`);
    process.stdout.write(`${path}\n`);
  });
  await Promise.all(pages);
} finally {
  await browser.close();
  for (const peer of peers) await peer.dispose();
  await rm(place, { recursive: true, force: true });
}
