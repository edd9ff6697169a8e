// openid-client against a running issuer. Steps are told by name as they succeed.
import * as oidc from 'openid-client'
import * as jose from 'jose'
import assert from 'node:assert/strict'
import { given, ask, tell, refused, done } from './talk.mjs'

const { issuer, web, spa, service, tv, callback, signedOut } = given
const server = new URL(issuer)
const verifierAndChallenge = async () => {
  const verifier = oidc.randomPKCECodeVerifier()
  return [verifier, await oidc.calculatePKCECodeChallenge(verifier)]
}

// -- discovery, code + PKCE, id token, userinfo -------------------------------------------------------------------
const config = await oidc.discovery(server, web.id, web.secret)
const metadata = config.serverMetadata()
assert.ok(metadata.supportsPKCE())
tell('discovery')

async function signIn(with_, parameters, checks = {}, options = undefined, more = {}) {
  const [verifier, challenge] = await verifierAndChallenge()
  const state = oidc.randomState(), nonce = oidc.randomNonce()
  const all = { redirect_uri: callback, scope: 'openid profile email', state, nonce, code_challenge: challenge, code_challenge_method: 'S256', ...parameters }
  const url = more.par ? await oidc.buildAuthorizationUrlWithPAR(with_, all, options) : oidc.buildAuthorizationUrl(with_, all)
  const { at } = await ask({ ask: 'sign-in', url: url.href })
  const tokens = await oidc.authorizationCodeGrant(with_, new URL(at), { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, idTokenExpected: true, ...checks }, undefined, options)
  return { tokens, at, verifier, state, nonce }
}

const first = await signIn(config, { scope: 'openid profile email offline_access' })
const claims = first.tokens.claims()
assert.equal(claims.iss, issuer)
assert.equal(claims.sub, given.subject)
assert.ok(claims.sid && claims.auth_time && claims.amr)
assert.equal(new URL(first.at).searchParams.get('iss'), issuer)
tell('code and PKCE')

const person = await oidc.fetchUserInfo(config, first.tokens.access_token, claims.sub)
assert.equal(person.email, given.email)
tell('userinfo')

oidc.enableNonRepudiationChecks(config) // the id token's signature is verified by the key set, too
const again = await signIn(config, { max_age: 3600 }, { maxAge: 3600 })
assert.equal(again.tokens.claims().sub, claims.sub)
tell('single sign-on, and signatures verified')

await refused(() => oidc.authorizationCodeGrant(config, new URL(again.at), { pkceCodeVerifier: again.verifier, expectedState: again.state, expectedNonce: again.nonce }), 'invalid_grant')
tell('a code twice is refused')

// -- refresh, introspection, revocation -------------------------------------------------------------------------------
const renewed = await oidc.refreshTokenGrant(config, first.tokens.refresh_token)
assert.notEqual(renewed.refresh_token, first.tokens.refresh_token)
tell('refresh')

assert.equal((await oidc.tokenIntrospection(config, renewed.access_token)).active, true)
await oidc.tokenRevocation(config, renewed.refresh_token)
await refused(() => oidc.refreshTokenGrant(config, renewed.refresh_token), 'invalid_grant')
assert.equal((await oidc.tokenIntrospection(config, renewed.refresh_token)).active, false)
tell('introspection and revocation')

// -- pushed authorization request ---------------------------------------------------------------------------------------
const pushed = await signIn(config, {}, {}, undefined, { par: true })
assert.equal(pushed.tokens.claims().sub, claims.sub)
tell('PAR')

// -- DPoP, with the server's nonce, public client ------------------------------------------------------------------------
const single = await oidc.discovery(server, spa.id, undefined, oidc.None())
const keys = await oidc.randomDPoPKeyPair('ES256')
const DPoP = oidc.getDPoPHandle(single, keys)
const bound = await signIn(single, { scope: 'openid offline_access', dpop_jkt: await DPoP.calculateThumbprint() }, {}, { DPoP })
assert.equal(bound.tokens.token_type, 'dpop')
assert.equal(jose.decodeJwt(bound.tokens.access_token).cnf.jkt, await DPoP.calculateThumbprint())
await oidc.fetchUserInfo(single, bound.tokens.access_token, claims.sub, { DPoP })
const otherKey = oidc.getDPoPHandle(single, await oidc.randomDPoPKeyPair('ES256'))
const boundAgain = await oidc.refreshTokenGrant(single, bound.tokens.refresh_token, undefined, { DPoP })
await refused(() => oidc.refreshTokenGrant(single, boundAgain.refresh_token, undefined, { DPoP: otherKey }), 'invalid_grant', 'invalid_dpop_proof')
tell('DPoP')

// -- client credentials: private_key_jwt, secret ---------------------------------------------------------------------------
const key = await jose.importJWK(service.jwk, service.jwk.alg)
const robot = await oidc.discovery(server, service.id, undefined, oidc.PrivateKeyJwt({ key, kid: service.jwk.kid }))
const own = await oidc.clientCredentialsGrant(robot, {})
const ofRobot = jose.decodeJwt(own.access_token)
assert.equal(ofRobot.sub, service.id)
assert.equal(jose.decodeProtectedHeader(own.access_token).typ, 'at+jwt')
const boundRobot = await oidc.clientCredentialsGrant(robot, {}, { DPoP: oidc.getDPoPHandle(robot, keys) })
assert.equal(boundRobot.token_type, 'dpop')
tell('private_key_jwt')
for (const method of [oidc.ClientSecretBasic(given.shop.secret), oidc.ClientSecretPost(given.shop.secret)]) {
  const shop = await oidc.discovery(server, given.shop.id, undefined, method)
  assert.ok((await oidc.clientCredentialsGrant(shop, {})).access_token)
}
const wrong = await oidc.discovery(server, given.shop.id, undefined, oidc.ClientSecretBasic('not the secret'))
await refused(() => oidc.clientCredentialsGrant(wrong, {}), 'OAUTH_WWW_AUTHENTICATE_CHALLENGE')
tell('client secrets')

// -- device flow ---------------------------------------------------------------------------------------------------------
const set = await oidc.discovery(server, tv.id, undefined, oidc.None())
const device = await oidc.initiateDeviceAuthorization(set, { scope: 'openid profile' })
const polling = oidc.pollDeviceAuthorizationGrant(set, device, undefined, { signal: AbortSignal.timeout(30000) })
await ask({ ask: 'device', url: device.verification_uri_complete, code: device.user_code })
assert.equal((await polling).claims().sub, claims.sub)
tell('device')

// -- logout: this browser's session ends, and its clients are told -------------------------------------------------------
const end = oidc.buildEndSessionUrl(config, { id_token_hint: pushed.tokens.id_token, post_logout_redirect_uri: signedOut, state: 'bye' })
const { at: after, token: logoutToken } = await ask({ ask: 'sign-out', url: end.href })
assert.equal(new URL(after).searchParams.get('state'), 'bye')
const jwks = jose.createRemoteJWKSet(new URL(metadata.jwks_uri))
const logout = await jose.jwtVerify(logoutToken, jwks, { issuer, audience: web.id, typ: 'logout+jwt' })
assert.equal(logout.payload.sid, pushed.tokens.claims().sid)
assert.ok('http://schemas.openid.net/event/backchannel-logout' in logout.payload.events)
assert.equal(logout.payload.nonce, undefined)
tell('logout, and back-channel logout')
done()
