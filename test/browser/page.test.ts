/** The page of a peer in a real browser: a run of two peers as processes, one of which is started again. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { PACKAGE_DIRECTORY } from '../../node/version.js';
import { CommandLine } from '../net/command-line.js';
import { openBrowser, openPage, PAGE_DEADLINE_MS, type Watched } from './browser.js';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const DATA = join(PACKAGE_DIRECTORY, 'examples', 'three-offices', 'data');
const LOCAL = ['--listen', '/ip4/127.0.0.1/tcp/0', '--threads', '1'];
/** Tiny steps: the page is on trial here, not the training. */
const RUN = [
  ...['--name', '<b>offices</b>', '--rank', '2', '--target-modules', 'q_proj', 'v_proj'],
  ...['--epochs', '500', '--epoch-seconds', '2', '--start-in', '1', '--steps', '8'],
  ...['--sequence-length', '16', '--batch-size', '2'],
];

/** Runs in the page: what the policy must refuse, and the names of what it did refuse. */
const ATTEMPTS = `(async () => {
  const refused = [];
  document.addEventListener('securitypolicyviolation', (event) => refused.push(event.effectiveDirective));
  const element = document.createElement('div');
  try { element.innerHTML = '<img src="x">'; } catch { refused.push('markup'); }
  try { document.createElement('script').text = 'window.ran = true'; } catch { refused.push('script'); }
  element.setAttribute('style', 'color: red');
  await fetch('http://192.0.2.1/').catch(() => undefined);
  new Image().src = 'http://192.0.2.1/x.png';
  const frame = document.createElement('iframe');
  frame.src = 'http://192.0.2.1/';
  document.body.append(element, frame);
  await new Promise((resolve) => setTimeout(resolve, 200));
  element.remove();
  frame.remove();
  return refused;
})()`;

/** Runs in the page: the elements that a window of 320 px cuts off. */
const BEYOND_THE_EDGE = `[...document.querySelectorAll('main *')]
  .filter((element) => element.getBoundingClientRect().right > 320.5)
  .map((element) => element.outerHTML.slice(0, 80))`;

let place = '';
let url = '';
let browser: Browser;
let founder: CommandLine;
let watched: Watched;
let page: Page;
const started: CommandLine[] = [];

function launch(...args: string[]): CommandLine {
  const command = new CommandLine(args);
  started.push(command);
  return command;
}

/** The same command starts the peer and starts it again. */
function launchFounder(): CommandLine {
  const data = ['--dir', join(place, 'a'), '--data', join(DATA, 'clinic.jsonl')];
  // The fewer lines are held out, the sooner a share of the training's time is enough to measure the personal adapter.
  return launch('start', ...data, '--held-out', '0.02', ...LOCAL, ...RUN);
}

before(async () => {
  place = await mkdtemp(join(tmpdir(), 'murmurate-browser-'));
  founder = launchFounder();
  browser = await openBrowser();
  const { address, url: printed } = await founder.facts();
  url = printed;
  launch(
    'join',
    address,
    '--dir',
    join(place, 'b'),
    '--data',
    join(DATA, 'law-office.jsonl'),
    ...LOCAL,
  );
  watched = await openPage(browser, { viewport: { width: 1200, height: 900 } });
  page = watched.page;
  await page.goto(url);
});

after(async () => {
  await browser.close();
  for (const command of started) await command.dispose();
  await rm(place, { recursive: true, force: true });
});

const isLive = (): Promise<unknown> => page.waitForSelector('main[data-link=live]');

/** Resolves when the text of the page matches `pattern`. */
async function shows(pattern: RegExp): Promise<void> {
  for (const endMs = performance.now() + PAGE_DEADLINE_MS; ;) {
    const text = await page.innerText('body');
    if (pattern.test(text)) return;
    assert.ok(performance.now() < endMs, `${String(pattern)} in\n${text}`);
    await page.waitForTimeout(100);
  }
}

/** Epochs in the table below the curves. */
async function epochsInTable(): Promise<number[]> {
  const cells = await page.locator('#learning ~ details tbody th').allTextContents();
  return cells.map(Number);
}

/** Losses in the table's column of that name, one an epoch; none where there is no such column. */
async function lossesInTable(column: string): Promise<string[]> {
  const table = page.locator('#learning ~ details table');
  const at = (await table.locator('thead th').allTextContents()).indexOf(column);
  return at < 0 ? [] : table.locator(`tbody tr > :nth-child(${at + 1})`).allTextContents();
}

/** E.g. 3.012. */
const isLoss = (text: string): boolean => /^\d\.\d{3}$/.test(text);

async function untilEpochs(what: string, isIt: (epochs: number[]) => boolean): Promise<number[]> {
  for (const endMs = performance.now() + PAGE_DEADLINE_MS; ;) {
    const epochs = await epochsInTable();
    if (isIt(epochs)) return epochs;
    assert.ok(performance.now() < endMs, `${what}: ${epochs.join(' ')}`);
    await page.waitForTimeout(200);
  }
}

/** What axe finds that matters. */
async function violations(): Promise<string[]> {
  await page.evaluate(AXE);
  const found = await page.evaluate<{
    violations: { id: string; impact: string; nodes: { html: string }[] }[];
  }>('axe.run()');
  return found.violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
}

describe('the page of a peer', () => {
  it('shows the run and who takes part, names of other peers as text', async () => {
    await isLive();
    assert.equal(await page.textContent('h1'), '<b>offices</b>');
    await shows(/1\s+of 1/);
    await shows(/direct, [\d.]+ ms/);
    assert.equal(await page.locator('.mesh line.direct').count(), 1);
  });

  it('keeps itself up to date: curves grow while it is open', async () => {
    const before = await untilEpochs('a first epoch', (epochs) => epochs.length > 0);
    await untilEpochs('one more', (epochs) => epochs.length > before.length);
    await shows(/Better guesses\s+[\d.,]+ times/);
    // A blank canvas of this size is a file of a few hundred bytes.
    const canvas = await page.locator('.chart canvas').first().screenshot();
    assert.ok(canvas.length > 3_000, `${canvas.length} bytes of picture`);
  });

  it('asks nobody but the peer, and has nothing to complain about', () => {
    assert.deepEqual([...watched.hosts], [new URL(url).host]);
    assert.deepEqual(watched.complaints, []);
  });

  it('runs no script and loads nothing that the policy does not name', async () => {
    const blocked = await page.evaluate<string[]>(ATTEMPTS);
    const expected = ['markup', 'script', 'style-src-attr', 'connect-src', 'img-src', 'frame-src'];
    for (const directive of expected)
      assert.ok(blocked.includes(directive), `${directive} in ${blocked.join(' ')}`);
    // Chromium writes each of them on the console.
    watched.complaints.length = 0;
    watched.hosts.clear();
  });

  it('has nothing serious in it for assistive technology, by day and by night', async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      assert.deepEqual(await violations(), [], colorScheme);
    }
    await page.emulateMedia({ colorScheme: 'light' });
  });

  it('fits a window of 320 px without a horizontal scroll bar', async () => {
    await page.setViewportSize({ width: 320, height: 640 });
    await page.waitForTimeout(100);
    assert.deepEqual(await page.evaluate(BEYOND_THE_EDGE), []);
    assert.ok(Number(await page.evaluate('document.documentElement.scrollWidth')) <= 320);
    await page.setViewportSize({ width: 1200, height: 900 });
  });

  it('can be used by keyboard: each table opens by Enter', async () => {
    const names: string[] = [];
    await page.evaluate('document.activeElement?.blur()');
    for (let i = 0; i < 4; i++) {
      await page.keyboard.press('Tab');
      const name = String(await page.evaluate('document.activeElement.textContent'));
      names.push(name.slice(0, 40));
    }
    assert.deepEqual(names.slice(0, 2), ['The same as a table', 'What for']);
    await page.focus('#learning ~ details summary');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#learning ~ details[open] table');
    // The page is drawn again each second: what is open stays open.
    await page.waitForTimeout(2_500);
    assert.equal(await page.locator('#learning ~ details[open]').count(), 1);
  });

  it('asks for nothing while nobody looks at it', async () => {
    const uptime = (): Promise<string> => page.locator('.facts dd').last().innerText();
    const hide = (hidden: boolean): Promise<unknown> =>
      page.evaluate(`Object.defineProperty(document, 'hidden', { value: ${hidden}, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'))`);
    await hide(true);
    const before = await uptime();
    await page.waitForTimeout(2_500);
    assert.equal(await uptime(), before);
    await hide(false);
    for (const endMs = performance.now() + PAGE_DEADLINE_MS; (await uptime()) === before;) {
      assert.ok(performance.now() < endMs, 'it goes on when somebody looks');
      await page.waitForTimeout(100);
    }
  });

  it('shows a curve of the personal adapter as soon as that was measured', async () => {
    for (const endMs = performance.now() + PAGE_DEADLINE_MS; ;) {
      const losses = await lossesInTable('Personal');
      if (losses.some(isLoss)) break;
      assert.ok(performance.now() < endMs, `no personal loss: ${losses.join(' ')}`);
      await page.waitForTimeout(200);
    }
    assert.match(await page.locator('.legend .personal').innerText(), /^Personal\s+\d\.\d{3}/);
    const chart = await page.locator('.chart [role=img]').first().getAttribute('aria-label');
    assert.match(chart ?? '', /Personal: \d\.\d{3}$/);
    assert.deepEqual(watched.complaints, []);
  });

  it('says when the peer is gone, and goes on with whole curves when it is back', async () => {
    const before = await untilEpochs('three epochs', (epochs) => epochs.length >= 3);
    founder.kill('SIGINT');
    await page.waitForSelector('main[data-link=lost]');
    await shows(/The peer does not answer/);
    assert.deepEqual(await violations(), []);
    assert.equal(await founder.ended(), 0);
    founder = launchFounder();
    assert.equal((await founder.facts()).url, url, 'the page finds the peer where it was');
    await isLive();
    const epochs = await untilEpochs('a later epoch', (now) => now.length > before.length);
    assert.deepEqual(epochs.slice(0, before.length), before);
    // A page that is opened only now shows the same.
    await page.reload();
    await isLive();
    const again = await untilEpochs('whole curves', (now) => now.length >= epochs.length);
    assert.deepEqual(again.slice(0, before.length), before);
    const lines = (await readFile(join(place, 'a', 'metrics.jsonl'), 'utf8')).trim().split('\n');
    for (const line of lines) assert.ok('trainingLoss' in (JSON.parse(line) as object));
    assert.ok(
      (await lossesInTable('Personal')).some(isLoss),
      'also what the earlier process measured',
    );
  });
});
