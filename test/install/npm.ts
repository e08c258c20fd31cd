/** Runs npm as a user who has just opened a terminal would. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** An install unpacks 300 MB, and the image's build compiles all, on machines that do other things too. */
const TIMEOUT_MS = 600_000;
/** A list of the files that npm packs is a few MB. */
const OUTPUT_BYTES_MAX = 32 * 1024 * 1024;

/** Without the settings of an npm that runs this test. */
function userEnvironment(): NodeJS.ProcessEnv {
  const entries = Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name));
  return { ...Object.fromEntries(entries), npm_config_update_notifier: 'false' };
}

/** What a command printed; rejects when it fails. */
export async function run(
  program: string,
  args: readonly string[],
  cwd: string,
): Promise<{ stdout: string; stderr: string }> {
  return promisify(execFile)(program, args, {
    ...{ cwd, env: userEnvironment(), timeout: TIMEOUT_MS, maxBuffer: OUTPUT_BYTES_MAX },
  });
}

/** `npm ARGS` in `cwd`; packages come from npm's cache where they lie there, else from the registry. */
export const npm = (cwd: string, ...args: string[]): Promise<{ stdout: string; stderr: string }> =>
  run('npm', [...args, '--prefer-offline', '--no-audit', '--no-fund'], cwd);
