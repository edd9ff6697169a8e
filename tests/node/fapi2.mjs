// openid-client under the server's security profile fapi2: private_key_jwt, PAR, DPoP with nonces, everything bound.
import * as oidc from 'openid-client'
import * as jose from 'jose'
import assert from 'node:assert/strict'
import { given, ask, tell, refused, done } from './talk.mjs'

const { issuer, callback, client } = given
const key = await jose.importJWK(client.jwk, client.jwk.alg)
const proving = () => oidc.PrivateKeyJwt({ key, kid: client.jwk.kid })
const config = await oidc.discovery(new URL(issuer), client.id, undefined, proving())
const metadata = config.serverMetadata()
assert.equal(metadata.require_pushed_authorization_requests, true)
assert.ok(!metadata.token_endpoint_auth_methods_supported.includes('client_secret_basic'))
assert.ok(!metadata.id_token_signing_alg_values_supported.includes('RS256'))
oidc.enableNonRepudiationChecks(config)
tell('discovery')

const DPoP = oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair('ES256'))
const verifier = oidc.randomPKCECodeVerifier(), state = oidc.randomState(), nonce = oidc.randomNonce()
const all = { redirect_uri: callback, scope: 'openid email offline_access', state, nonce, code_challenge: await oidc.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256' }
const { at: unpushed } = await ask({ ask: 'open', url: oidc.buildAuthorizationUrl(config, all).href })
assert.ok(!new URL(unpushed, issuer).searchParams.has('code'))
tell('a request that was not pushed is refused')

const pushed = await oidc.buildAuthorizationUrlWithPAR(config, all, { DPoP })
const { at } = await ask({ ask: 'sign-in', url: pushed.href })
const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, idTokenExpected: true }
const other = oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair('ES256'))
const tokens = await oidc.authorizationCodeGrant(config, new URL(at), checks, undefined, { DPoP })
assert.equal(tokens.token_type, 'dpop')
assert.equal(jose.decodeJwt(tokens.access_token).cnf.jkt, await DPoP.calculateThumbprint())
assert.notEqual(jose.decodeProtectedHeader(tokens.id_token).alg, 'RS256')
tell('PAR, code and DPoP')

const person = await oidc.fetchUserInfo(config, tokens.access_token, tokens.claims().sub, { DPoP })
assert.ok(person.email)
await refused(() => oidc.fetchUserInfo(config, tokens.access_token, tokens.claims().sub), 'OAUTH_WWW_AUTHENTICATE_CHALLENGE')
await refused(() => oidc.fetchUserInfo(config, tokens.access_token, tokens.claims().sub, { DPoP: other }), 'OAUTH_WWW_AUTHENTICATE_CHALLENGE')
tell('userinfo with its key alone')

const renewed = await oidc.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })
assert.equal(renewed.token_type, 'dpop')
assert.equal((await oidc.tokenIntrospection(config, renewed.access_token)).active, true)
await refused(() => oidc.refreshTokenGrant(config, renewed.refresh_token), 'invalid_dpop_proof', 'invalid_request', 'invalid_grant')
await oidc.tokenRevocation(config, renewed.refresh_token)
await refused(() => oidc.refreshTokenGrant(config, renewed.refresh_token, undefined, { DPoP }), 'invalid_grant')
tell('refresh, introspection, revocation')

const own = await oidc.clientCredentialsGrant(config, {}, { DPoP })
assert.equal(own.token_type, 'dpop')
await refused(() => oidc.clientCredentialsGrant(config, {}), 'invalid_dpop_proof')
tell('client credentials, bound')
done()
