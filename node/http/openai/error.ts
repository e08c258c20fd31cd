/** Errors as the OpenAI API words them, so that its clients understand them. */

export type ErrorStatus = 400 | 401 | 403 | 404 | 405 | 413 | 415 | 429 | 500;

/** Answered as {"error": {message, type, param, code}}. The message holds nothing of a prompt or a key. */
export class ApiError extends Error {
  override readonly name = 'ApiError';

  constructor(
    readonly status: ErrorStatus,
    message: string,
    /** Field of the request at fault, e.g. "messages[0].role". */
    readonly param: string | null = null,
    /** For programs, e.g. "model_not_found". */
    readonly code: string | null = null,
  ) {
    super(message);
  }

  get body(): {
    error: { message: string; type: string; param: string | null; code: string | null };
  } {
    const { message, param, code } = this;
    return { error: { message, type: typeOf(this.status), param, code } };
  }
}

function typeOf(status: ErrorStatus): string {
  if (status === 429) return 'rate_limit_error';
  return status === 500 ? 'server_error' : 'invalid_request_error';
}
