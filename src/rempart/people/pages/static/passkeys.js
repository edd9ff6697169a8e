// Passkeys (WebAuthn Level 3): the only script there is. Options come in an attribute, the answer leaves in a form field.
"use strict";
(() => {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const named = (list) => (list || []).map((one) => ({ ...one, id: bytes(one.id) }));

  const read = (json) => {
    const options = JSON.parse(json);
    options.challenge = bytes(options.challenge);
    if (options.user) options.user.id = bytes(options.user.id);
    if (options.allowCredentials) options.allowCredentials = named(options.allowCredentials);
    if (options.excludeCredentials) options.excludeCredentials = named(options.excludeCredentials);
    return options;
  };

  const written = (credential) => {
    const given = credential.response;
    const response = { clientDataJSON: text(given.clientDataJSON) };
    for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"])
      if (given[name]) response[name] = text(given[name]);
    if (given.getTransports) response.transports = given.getTransports();
    return JSON.stringify({
      id: credential.id,
      rawId: text(credential.rawId),
      type: credential.type,
      response,
      authenticatorAttachment: credential.authenticatorAttachment || undefined,
      clientExtensionResults: credential.getClientExtensionResults(),
    });
  };

  if (!window.PublicKeyCredential) return;
  let waiting = null; // the offer in the name field's autofill list: only one request may be open at a time

  const start = async (form, mediation) => {
    if (waiting) waiting.abort();
    const control = (waiting = new AbortController());
    const failed = form.querySelector(".error[role=alert]");
    failed.hidden = true;
    try {
      const request = { publicKey: read(form.dataset.options), signal: control.signal };
      if (mediation) request.mediation = mediation;
      const credential = await navigator.credentials[form.dataset.passkey](request);
      form.elements.passkey.value = written(credential);
      form.submit();
    } catch (error) {
      if (mediation || control.signal.aborted) return;
      failed.textContent = form.dataset.failed;
      failed.hidden = false;
    }
  };

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    form.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      start(form);
    });
    const offered = document.querySelector("input[autocomplete~=webauthn]");
    if (form.dataset.passkey === "get" && offered && PublicKeyCredential.isConditionalMediationAvailable)
      PublicKeyCredential.isConditionalMediationAvailable().then((yes) => yes && start(form, "conditional"));
  }
  for (const note of document.querySelectorAll(".unsupported")) note.hidden = true;
})();
