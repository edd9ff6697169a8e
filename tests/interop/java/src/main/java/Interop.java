import io.spiffe.bundle.x509bundle.X509BundleSet;
import io.spiffe.exception.JwtSvidException;
import io.spiffe.spiffeid.TrustDomain;
import io.spiffe.svid.jwtsvid.JwtSvid;
import io.spiffe.svid.x509svid.X509SvidValidator;
import io.spiffe.workloadapi.DefaultWorkloadApiClient;
import io.spiffe.workloadapi.Watcher;
import io.spiffe.workloadapi.WorkloadApiClient;
import io.spiffe.workloadapi.X509Context;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** java-spiffe against the Workload API of $SPIFFE_ENDPOINT_SOCKET: arguments are the default SPIFFE ID and a partner. */
public final class Interop {
    static void check(boolean holds, String what) {
        if (!holds) {
            System.err.println(what);
            System.exit(1);
        }
    }

    public static void main(String[] arguments) throws Exception {
        String expected = arguments[0];
        TrustDomain partner = TrustDomain.parse(arguments[1]);
        try (WorkloadApiClient client = DefaultWorkloadApiClient.newClient()) {
            X509Context context = client.fetchX509Context();
            check(context.getDefaultSvid().getSpiffeId().toString().equals(expected), "another SPIFFE ID");
            X509BundleSet bundles = context.getX509BundleSet();
            X509SvidValidator.verifyChain(Arrays.asList(context.getDefaultSvid().getChainArray()), bundles);
            check(bundles.getBundleForTrustDomain(partner).getX509Authorities().size() == 1, "no bundle of the partner");

            JwtSvid token = client.fetchJwtSvid("reports", "audit");
            check(token.getAudience().containsAll(Set.of("reports", "audit")), "other audiences");
            JwtSvid parsed = JwtSvid.parseAndValidate(token.getToken(), client.fetchJwtBundles(), Set.of("audit"));
            check(parsed.getSpiffeId().toString().equals(expected), "another subject");
            check(client.validateJwtSvid(token.getToken(), "reports").getSpiffeId().toString().equals(expected), "not validated");
            try {
                client.validateJwtSvid(token.getToken(), "somebody-else");
                check(false, "validated for another audience");
            } catch (JwtSvidException refused) {
                // as it should be
            }

            Set<String> serials = new HashSet<>();
            CountDownLatch rotated = new CountDownLatch(3);
            client.watchX509Context(new Watcher<X509Context>() {
                @Override
                public void onUpdate(X509Context update) {
                    if (serials.add(update.getDefaultSvid().getLeaf().getSerialNumber().toString())) {
                        rotated.countDown();
                    }
                }

                @Override
                public void onError(Throwable error) {
                    System.err.println(error);
                }
            });
            check(rotated.await(30, TimeUnit.SECONDS), "no rotation was seen");
        }
        System.out.println("OK");
        System.exit(0);
    }
}
