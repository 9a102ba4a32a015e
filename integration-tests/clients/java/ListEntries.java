import dev.chandlery.registry.v1.Entry;
import dev.chandlery.registry.v1.EntryServiceGrpc;
import dev.chandlery.registry.v1.ListEntriesRequest;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/** Lists the entries of a registry, with the client that proto/buf.gen.java.yaml makes: ADDRESS TOKEN. */
public final class ListEntries {
  public static void main(String[] arguments) {
    Metadata headers = new Metadata();
    headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + arguments[1]);
    ManagedChannel channel = Grpc.newChannelBuilder(arguments[0], InsecureChannelCredentials.create()).build();
    try {
      var stub = EntryServiceGrpc.newBlockingStub(channel)
          .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers))
          .withDeadlineAfter(30, TimeUnit.SECONDS);
      var entries = stub.listEntries(ListEntriesRequest.getDefaultInstance()).getEntriesList();
      System.out.println(entries.stream().map(ListEntries::json).collect(Collectors.joining(", ", "[", "]")));
    } finally {
      channel.shutdownNow();
    }
  }

  private static String json(Entry entry) {
    String labels = entry.getLabelsMap().entrySet().stream()
        .map((Map.Entry<String, String> label) -> quoted(label.getKey()) + ": " + quoted(label.getValue()))
        .collect(Collectors.joining(", ", "{", "}"));
    return "{\"name\": " + quoted(entry.getName()) + ", \"display_name\": " + quoted(entry.getDisplayName()) + ", \"labels\": " + labels + "}";
  }

  /** Names and labels of the test hold nothing that JSON escapes. */
  private static String quoted(String text) {
    return '"' + text + '"';
  }
}
