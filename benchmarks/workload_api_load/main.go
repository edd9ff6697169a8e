// Load on a SPIFFE Workload API socket, by grpc-go and go-spiffe's own messages, so that SPIRE's agent and ours are asked
// by the same program: `load SOCKET x509|jwt CLIENTS SECONDS` prints the answers per second. Each client has a connection
// of its own and asks again when it has been answered; each JWT-SVID is for an audience that nobody asked for before.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	socket, kind := os.Args[1], os.Args[2]
	clients, err := strconv.Atoi(os.Args[3])
	fail(err)
	seconds, err := strconv.ParseFloat(os.Args[4], 64)
	fail(err)
	header := metadata.Pairs("workload.spiffe.io", "true")
	var answered atomic.Int64
	var stop atomic.Bool
	var wait sync.WaitGroup
	ready := make(chan struct{})
	for number := 0; number < clients; number++ {
		connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		fail(err)
		api := workload.NewSpiffeWorkloadAPIClient(connection)
		ask := func(turn int) error {
			ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(context.Background(), header), 10*time.Second)
			defer cancel()
			if kind == "jwt" {
				audience := fmt.Sprintf("%d-%d-%d", os.Getpid(), number, turn)
				_, err := api.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{audience}})
				return err
			}
			stream, err := api.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}
		fail(ask(0))
		wait.Add(1)
		go func() {
			defer wait.Done()
			<-ready
			for turn := 1; !stop.Load(); turn++ {
				fail(ask(turn))
				answered.Add(1)
			}
		}()
	}
	began := time.Now()
	close(ready)
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	stop.Store(true)
	wait.Wait()
	fmt.Printf("%.0f\n", float64(answered.Load())/time.Since(began).Seconds())
}
