// go-spiffe's own client against Rempart: fetch, follow a rotation, mutual TLS with itself, JWT-SVIDs. Prints OK.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	want := spiffeid.RequireFromString(os.Args[1])

	source, err := workloadapi.NewX509Source(ctx) // $SPIFFE_ENDPOINT_SOCKET
	check(err)
	defer source.Close()
	svid, err := source.GetX509SVID()
	check(err)
	if svid.ID != want {
		check(fmt.Errorf("got %s", svid.ID))
	}

	listener, err := tls.Listen("tcp", "127.0.0.1:0", tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(want)))
	check(err)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			io.WriteString(connection, "hello")
			connection.Close()
		}
	}()
	shake := func() {
		connection, err := tls.Dial("tcp", listener.Addr().String(), tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(want)))
		check(err)
		greeting, err := io.ReadAll(connection)
		check(err)
		if string(greeting) != "hello" {
			check(fmt.Errorf("read %q", greeting))
		}
	}
	shake()
	first := svid.Certificates[0].SerialNumber
	for rotated := false; !rotated; {
		check(source.WaitUntilUpdated(ctx))
		svid, err = source.GetX509SVID()
		check(err)
		rotated = svid.Certificates[0].SerialNumber.Cmp(first) != 0
	}
	shake()

	tokens, err := workloadapi.NewJWTSource(ctx)
	check(err)
	defer tokens.Close()
	token, err := tokens.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "interop"})
	check(err)
	parsed, err := jwtsvid.ParseAndValidate(token.Marshal(), tokens, []string{"interop"})
	check(err)
	if parsed.ID != want {
		check(fmt.Errorf("the token is of %s", parsed.ID))
	}
	if _, err := jwtsvid.ParseAndValidate(token.Marshal(), tokens, []string{"other"}); err == nil {
		check(fmt.Errorf("a token for another audience passed"))
	}

	// Several SVIDs with hints, and the bundle of a partner trust domain.
	client, err := workloadapi.New(ctx)
	check(err)
	defer client.Close()
	x509, err := client.FetchX509Context(ctx)
	check(err)
	hints := ""
	for _, one := range x509.SVIDs {
		hints += one.ID.Path() + "=" + one.Hint + " "
	}
	if hints != os.Args[2] {
		check(fmt.Errorf("the SVIDs are %q", hints))
	}
	if partner := spiffeid.RequireTrustDomainFromString(os.Args[3]); !x509.Bundles.Has(partner) {
		check(fmt.Errorf("no bundle of %s", partner))
	}
	claims, err := client.ValidateJWTSVID(ctx, token.Marshal(), "interop")
	check(err)
	if claims.ID != want {
		check(fmt.Errorf("validated as %s", claims.ID))
	}
	all, err := client.FetchJWTSVIDs(ctx, jwtsvid.Params{Audience: "interop"})
	check(err)
	if len(all) != len(x509.SVIDs) {
		check(fmt.Errorf("%d JWT-SVIDs", len(all)))
	}
	jwtBundles, err := client.FetchJWTBundles(ctx)
	check(err)
	if jwtBundles.Len() != x509.Bundles.Len() {
		check(fmt.Errorf("%d JWT bundles", jwtBundles.Len()))
	}
	fmt.Println("OK")
}
