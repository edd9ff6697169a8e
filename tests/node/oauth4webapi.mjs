// oauth4webapi against a running issuer: RFC 8414 discovery, a FAPI-like flow (PAR, private_key_jwt, DPoP with nonces),
// RFC 9068 validation of the access token, token exchange. Steps are told by name as they succeed.
import * as oauth from 'oauth4webapi'
import * as jose from 'jose'
import assert from 'node:assert/strict'
import { given, ask, tell, refused, done } from './talk.mjs'

const issuer = new URL(given.issuer)
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2' }))
const oidc = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oidc' }))
assert.deepEqual(as.token_endpoint, oidc.token_endpoint)
assert.deepEqual(as.code_challenge_methods_supported, ['S256'])
assert.equal(as.authorization_response_iss_parameter_supported, true)
tell('RFC 8414 discovery')

const client = { client_id: given.bank.id }
const key = await jose.importJWK(given.bank.jwk, given.bank.jwk.alg)
const authentication = oauth.PrivateKeyJwt({ key, kid: given.bank.jwk.kid })
const pair = await oauth.generateKeyPair('ES256')
const DPoP = oauth.DPoP(client, pair)

/** Once more with the nonce that the answer of the first try gave. */
async function withNonce(attempt) {
  try {
    return await attempt()
  } catch (error) {
    if (oauth.isDPoPNonceError(error)) return attempt()
    throw error
  }
}

const verifier = oauth.generateRandomCodeVerifier(), state = oauth.generateRandomState(), nonce = oauth.generateRandomNonce()
const parameters = {
  response_type: 'code', redirect_uri: given.callback, scope: 'openid email offline_access', state, nonce,
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
}
const pushed = await withNonce(async () =>
  oauth.processPushedAuthorizationResponse(as, client, await oauth.pushedAuthorizationRequest(as, client, authentication, parameters, { DPoP })))
const url = new URL(as.authorization_endpoint)
url.searchParams.set('client_id', client.client_id)
url.searchParams.set('request_uri', pushed.request_uri)
tell('PAR with private_key_jwt')

const { at } = await ask({ ask: 'sign-in', url: url.href })
const answer = oauth.validateAuthResponse(as, client, new URL(at), state)
const tokens = await withNonce(async () =>
  oauth.processAuthorizationCodeResponse(as, client, await oauth.authorizationCodeGrantRequest(as, client, authentication, answer, given.callback, verifier, { DPoP }), { expectedNonce: nonce, requireIdToken: true }))
const subject = oauth.getValidatedIdTokenClaims(tokens).sub
assert.equal(subject, given.subject)
tell('code with DPoP')

const person = await withNonce(async () =>
  oauth.processUserInfoResponse(as, client, subject, await oauth.userInfoRequest(as, client, tokens.access_token, { DPoP })))
assert.equal(person.email, given.email)
tell('userinfo with DPoP')

const resource = 'https://api.example/accounts'
let call
await oauth.protectedResourceRequest(tokens.access_token, 'GET', new URL(resource), undefined, undefined, {
  DPoP, [oauth.customFetch]: async (target, init) => ((call = new Request(target, init)), new Response('{}')),
})
const claims = await oauth.validateJwtAccessToken(as, call, given.audience, { requireDPoP: true })
assert.equal(claims.client_id, client.client_id)
tell('RFC 9068: the access token, by another implementation')

const renewed = await withNonce(async () =>
  oauth.processRefreshTokenResponse(as, client, await oauth.refreshTokenGrantRequest(as, client, authentication, tokens.refresh_token, { DPoP })))
assert.ok(renewed.refresh_token)
tell('refresh with DPoP')

const grant = 'urn:ietf:params:oauth:grant-type:token-exchange'
const exchange = async (subject_token, more = {}) =>
  withNonce(async () =>
    oauth.processGenericTokenEndpointResponse(as, client, await oauth.genericTokenEndpointRequest(as, client, authentication, grant, {
      subject_token, subject_token_type: 'urn:ietf:params:oauth:token-type:access_token', ...more,
    }, { DPoP })))
const acting = await exchange(renewed.access_token)
const act = jose.decodeJwt(acting.access_token)
assert.equal(act.sub, subject)
assert.equal(act.act.sub ?? act.act.client_id, client.client_id)
await refused(() => exchange('not a token'), 'invalid_request', 'invalid_grant')
tell('token exchange')

const own = await withNonce(async () =>
  oauth.processClientCredentialsResponse(as, client, await oauth.clientCredentialsGrantRequest(as, client, authentication, {}, { DPoP })))
assert.equal(own.token_type, 'dpop')
const seen = await oauth.processIntrospectionResponse(as, client, await oauth.introspectionRequest(as, client, authentication, own.access_token))
assert.equal(seen.active, true)
assert.equal(seen.cnf.jkt, await jose.calculateJwkThumbprint(await jose.exportJWK(pair.publicKey)))
await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, authentication, renewed.refresh_token))
await refused(() => exchange('x', { subject_token_type: 'urn:example:nonsense' }), 'invalid_request')
tell('client credentials, introspection, revocation')
done()
