/** Whether the own router forwards ports on request (UPnP): asked on the own network alone. */
import { upnpNat } from '@achingbrain/nat-port-mapper';

/** What a router says of itself. */
export interface Router {
  /** Its address on the own network. */
  host: string;
  /** The address by which the internet sees it; null when it does not say. */
  externalIp: string | null;
}

/** The first router that answers before `signal` aborts; null when none does. Never rejects. */
export async function findRouter(signal: AbortSignal): Promise<Router | null> {
  try {
    for await (const gateway of upnpNat().findGateways({ signal })) {
      const externalIp = await gateway.externalIp({ signal }).catch(() => null);
      await gateway.stop();
      return { host: gateway.host, externalIp };
    }
  } catch {
    // Nobody answered in time.
  }
  return null;
}
